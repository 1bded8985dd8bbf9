// Looks into every process that appears in its pid namespace, as fast as it can, for SECONDS: what it finds of a
// runtime there (its binary among the process's mappings, a file of the host behind its root, its memory open for
// writing) would be a way out of the container. Prints the count of such finds, and of processes looked into.
//
// racer SECONDS NAME: NAME is the file name of the runtime's binary.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int look(int pid, const char *name) {
  char path[64], text[65536];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  int fd = open(path, O_RDONLY);
  if (fd < 0) return 0;
  long size = read(fd, text, sizeof text - 1);
  close(fd);
  text[size > 0 ? size : 0] = 0;
  int found = 0;
  for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    char *file = strrchr(line, '/');
    if (file && strcmp(file + 1, name) == 0) found = 1;
  }
  // The container's root has this file; the host's has not.
  snprintf(path, sizeof path, "/proc/%d/root/container-root", pid);
  if (access(path, F_OK) != 0) {
    snprintf(path, sizeof path, "/proc/%d/root/proc", pid);
    if (access(path, F_OK) == 0) found = 2;
  }
  return found;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  time_t end = time(NULL) + atoi(argv[1]);
  int newest = 1, finds = 0, seen = 0;
  while (time(NULL) < end) {
    for (int i = 0; i < 100; i++) {
      char path[64];
      snprintf(path, sizeof path, "/proc/%d", newest + 1);
      if (access(path, F_OK) != 0) continue;
      newest++;
      seen++;
      // Again and again while it lives: what it is changes.
      for (int k = 0; k < 50; k++) {
        int found = look(newest, argv[2]);
        if (found) {
          printf("pid %d: %s\n", newest, found == 1 ? "the runtime's binary" : "another root");
          finds++;
          break;
        }
      }
    }
    int last = 0;
    FILE *load = fopen("/proc/loadavg", "r");
    if (load) {
      if (fscanf(load, "%*s %*s %*s %*s %d", &last) == 1 && last > newest + 1) newest = last - 1;
      fclose(load);
    }
  }
  printf("finds %d\nseen %d\n", finds, seen);
  return 0;
}
