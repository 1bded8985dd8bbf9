// What the tests' shell scripts cannot do in a container.
//
//   probe notify TEXT        sends TEXT to $NOTIFY_SOCKET, as sd_notify(3) does
//   probe notify-fds N TEXT  the same, with N descriptors
//   probe notify-long N      sends READY=1 and N bytes more in the same line
//   probe call ABI NUMBER [ARGUMENT...]
//                            makes a system call by number: x86_64, x86 or x32; prints its result, negative errors
//   probe thread NUMBER      makes it in a second thread; prints "alive" where the first one outlives that
//
// Ends with 0 where what it was told to do was done, else with the errno.
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static int notify(const char *text, size_t length, int fds) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  const char *path = getenv("NOTIFY_SOCKET");
  if (!path) return ENOENT;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  struct iovec part = {(void *)text, length};
  struct msghdr message = {
      .msg_name = &address,
      .msg_namelen = offsetof(struct sockaddr_un, sun_path) + strlen(address.sun_path) + 1,
      .msg_iov = &part,
      .msg_iovlen = 1,
  };
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(250 * sizeof(int))] = {0};
  if (fds > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(fds * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds * sizeof(int));
    for (int i = 0; i < fds; i++) ((int *)CMSG_DATA(header))[i] = 0;
  }
  return sendmsg(fd, &message, MSG_NOSIGNAL) < 0 ? errno : 0;
}

static int notify_long(size_t more) {
  size_t length = strlen("READY=1") + more;
  char *text = malloc(length);
  memset(text, 'x', length);
  memcpy(text, "READY=1", strlen("READY=1"));
  return notify(text, length, 0);
}

static long call(const char *abi, long number, const long *a) {
  long result = -ENOSYS;
#ifdef __x86_64__
  if (strcmp(abi, "x86") == 0) {
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
  }
  if (strcmp(abi, "x32") == 0) number |= 0x40000000;
#endif
  result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  return result < 0 ? -errno : result;
}

static void *call_in_thread(void *number) {
  static const long none[6];
  call("x86_64", *(long *)number, none);
  return NULL;
}

static int thread(long number) {
  pthread_t other;
  if (pthread_create(&other, NULL, call_in_thread, &number)) return EAGAIN;
  // A thread that is killed is not one that is joined.
  usleep(200 * 1000);
  printf("alive\n");
  fflush(stdout);
  _exit(0);
}

int main(int argc, char **argv) {
  const char *command = argc > 1 ? argv[1] : "";
  if (argc == 3 && strcmp(command, "notify") == 0) return notify(argv[2], strlen(argv[2]), 0);
  if (argc == 3 && strcmp(command, "notify-long") == 0) return notify_long(strtoul(argv[2], NULL, 0));
  if (argc == 4 && strcmp(command, "notify-fds") == 0) return notify(argv[3], strlen(argv[3]), atoi(argv[2]));
  if (argc == 3 && strcmp(command, "thread") == 0) return thread(strtol(argv[2], NULL, 0));
  if (argc > 3 && argc <= 10 && strcmp(command, "call") == 0) {
    long arguments[6] = {0};
    for (int i = 4; i < argc; i++) arguments[i - 4] = strtol(argv[i], NULL, 0);
    long result = call(argv[2], strtol(argv[3], NULL, 0), arguments);
    printf("%ld\n", result);
    return result < 0 && result > -256 ? (int)-result : 0;
  }
  fprintf(stderr, "probe: what?\n");
  return 255;
}
