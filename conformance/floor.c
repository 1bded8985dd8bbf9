// floor ROOTFS: the bare kernel work of one container in the shape of Docker's default config, and nothing else.
//
// What no runtime can avoid: one clone3 with six namespaces into a new cgroup, the seven default mounts, devices and
// links, pivot_root, read-only and masked paths, host name, capabilities, execve of /bin/true, wait, and rmdir of the
// cgroup. No config is read, no state is kept, and there is neither a seccomp filter nor a device program.
// Built by build.rs, static, and embedded in the program that measures.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

static void must(long result, const char *what) {
    if (result < 0) {
        dprintf(2, "floor: %s: %s\n", what, strerror(errno));
        _exit(125);
    }
}

static const struct {
    const char *type, *target, *data;
    unsigned long flags;
} mounts[] = {
    {"proc", "proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"tmpfs", "dev", "mode=755,size=65536k", MS_NOSUID | MS_STRICTATIME},
    {"devpts", "dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
    {"sysfs", "sys", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY},
    {"cgroup2", "sys/fs/cgroup", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY},
    {"mqueue", "dev/mqueue", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"tmpfs", "dev/shm", "mode=1777,size=67108864", MS_NOSUID | MS_NOEXEC | MS_NODEV},
};

static const struct {
    const char *path;
    unsigned major, minor;
} devices[] = {{"dev/null", 1, 3},   {"dev/zero", 1, 5},    {"dev/full", 1, 7},
               {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};

static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"},
                                       {"/proc/self/fd/0", "dev/stdin"},
                                       {"/proc/self/fd/1", "dev/stdout"},
                                       {"/proc/self/fd/2", "dev/stderr"},
                                       {"pts/ptmx", "dev/ptmx"}};

static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};

static const char *const masked_files[] = {"/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
                                           "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug"};

static const char *const masked_dirs[] = {"/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware",
                                          "/sys/devices/virtual/powercap"};

static void container(const char *rootfs) {
    must(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL), "slave");
    must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), "bind rootfs");
    must(chdir(rootfs), "chdir");
    for (size_t i = 0; i < COUNT(mounts); i++) {
        mkdir(mounts[i].target, 0755);
        must(mount(mounts[i].type, mounts[i].target, mounts[i].type, mounts[i].flags, mounts[i].data), mounts[i].target);
    }
    umask(0);
    for (size_t i = 0; i < COUNT(devices); i++)
        must(mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)), devices[i].path);
    for (size_t i = 0; i < COUNT(links); i++) must(symlink(links[i][0], links[i][1]), links[i][1]);
    umask(022);
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    for (size_t i = 0; i < COUNT(read_only); i++)
        if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) == 0)
            must(mount(NULL, read_only[i], NULL,
                       MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL),
                 read_only[i]);
    for (size_t i = 0; i < COUNT(masked_files); i++) mount("/dev/null", masked_files[i], NULL, MS_BIND, NULL);
    for (size_t i = 0; i < COUNT(masked_dirs); i++) mount("tmpfs", masked_dirs[i], "tmpfs", MS_RDONLY, "size=0k");
    must(sethostname("floor", 5), "hostname");
    // Docker's fourteen capabilities.
    const unsigned long long keep = 0xa80425fb;
    for (int cap = 0; cap <= 40; cap++)
        if (!(keep >> cap & 1)) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{(unsigned)keep, (unsigned)keep, 0}, {0, 0, 0}};
    must(syscall(SYS_capset, &header, caps), "capset");
    char *const argv[] = {"true", NULL}, *const env[] = {"PATH=/bin", NULL};
    execve("/bin/true", argv, env);
    must(-1, "execve");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        dprintf(2, "usage: floor ROOTFS\n");
        return 2;
    }
    char cgroup[64];
    snprintf(cgroup, sizeof cgroup, "/sys/fs/cgroup/floor.%d", getpid());
    must(mkdir(cgroup, 0755), cgroup);
    int fd = open(cgroup, O_DIRECTORY | O_CLOEXEC);
    must(fd, cgroup);
    struct clone_args args = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP |
                 CLONE_INTO_CGROUP,
        .exit_signal = SIGCHLD,
        .cgroup = fd,
    };
    long pid = syscall(SYS_clone3, &args, sizeof args);
    must(pid, "clone3");
    if (pid == 0) container(argv[1]);
    int status;
    must(waitpid(pid, &status, 0), "wait");
    must(rmdir(cgroup), "rmdir");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 124;
}
