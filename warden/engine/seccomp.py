"""The system calls that a container may make: an allow list in the form of the OCI runtime specification.

What is missing here ends with EPERM: what loads code into the kernel, mounts, sets clocks, traces across users, makes
namespaces, or reaches subsystems (keyrings, bpf, perf, userfaultfd, io_uring) whose defects led out of containers.
Names that a kernel or libseccomp does not know are passed over by runc.
"""

from typing import Any

_ENOSYS = 38
_CLONE_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)  # Linux, 32 bit, UNAME26, both, "which one is it?"
# The machine's own alone: each one more doubles what a job waits for its filter, and opens the calls of another table.
# A program for another architecture (32 bit) is killed at its first call.
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}

# By what they are about; one row, one subject.
_ALLOWED = (
    # files: open, read, write, names, attributes
    "open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev "
    "pwritev2 lseek _llseek sendfile sendfile64 splice tee vmsplice copy_file_range readahead fadvise64 fadvise64_64 "
    "arm_fadvise64_64 dup dup2 dup3 fcntl fcntl64 flock fsync fdatasync sync syncfs sync_file_range sync_file_range2 "
    "arm_sync_file_range truncate truncate64 ftruncate ftruncate64 fallocate access faccessat faccessat2 stat stat64 "
    "fstat fstat64 fstatat64 newfstatat lstat lstat64 statx oldstat oldfstat oldlstat statfs statfs64 fstatfs "
    "fstatfs64 getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename renameat renameat2 link linkat "
    "unlink unlinkat symlink symlinkat readlink readlinkat mknod mknodat chmod fchmod fchmodat fchmodat2 chown chown32 "
    "fchown fchown32 fchownat lchown lchown32 umask utime utimes utimensat utimensat_time64 futimesat getxattr "
    "lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr lremovexattr "
    "fremovexattr name_to_handle_at cachestat",
    # descriptors that wait, count and notify
    "pipe pipe2 poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 epoll_create epoll_create1 "
    "epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 "
    "timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 inotify_init inotify_init1 "
    "inotify_add_watch inotify_rm_watch memfd_create memfd_secret ioctl io_setup io_destroy io_submit io_cancel "
    "io_getevents io_pgetevents io_pgetevents_time64",
    # sockets
    "socket socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername getsockopt "
    "setsockopt send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
    # memory
    "brk mmap mmap2 munmap mremap mprotect pkey_alloc pkey_free pkey_mprotect madvise process_madvise mincore mlock "
    "mlock2 mlockall munlock munlockall msync remap_file_pages membarrier map_shadow_stack process_mrelease",
    # processes, threads, their identity
    "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid gettid getppid getpgid getpgrp setpgid "
    "getsid setsid set_tid_address set_robust_list get_robust_list set_thread_area get_thread_area arch_prctl prctl "
    "rseq futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue pidfd_open pidfd_send_signal getuid "
    "getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32 "
    "getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid "
    "setresuid32 setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset "
    "seccomp modify_ldt landlock_create_ruleset landlock_add_rule landlock_restrict_self chroot sigaltstack "
    "restart_syscall",
    # signals
    "kill tkill tgkill rt_sigaction rt_sigprocmask rt_sigpending rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 "
    "rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn sigaction sigprocmask sigpending sigsuspend sigreturn signal pause "
    "alarm",
    # time
    "time times clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64 "
    "gettimeofday nanosleep getitimer setitimer timer_create timer_delete timer_getoverrun timer_gettime "
    "timer_gettime64 timer_settime timer_settime64",
    # scheduling and resources
    "sched_yield sched_getparam sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr "
    "sched_getaffinity sched_setaffinity sched_get_priority_max sched_get_priority_min sched_rr_get_interval "
    "sched_rr_get_interval_time64 getpriority setpriority nice getrlimit ugetrlimit setrlimit prlimit64 getrusage "
    "ioprio_get ioprio_set getcpu",
    # System V and POSIX inter-process communication
    "ipc shmget shmat shmctl shmdt semget semop semctl semtimedop semtimedop_time64 msgget msgsnd msgrcv msgctl "
    "mq_open mq_unlink mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64 mq_notify mq_getsetattr",
    # about the machine
    "uname olduname sysinfo getrandom",
)  # fmt: skip


def profile(machine: str) -> dict[str, Any]:
    """The `linux.seccomp` of a config.json for a machine as os.uname() names it."""
    names = " ".join(_ALLOWED).split()
    calls: list[dict[str, Any]] = [
        {"names": names, "action": "SCMP_ACT_ALLOW"},
        # Processes and threads yes, namespaces no.
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": _CLONE_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
        # Its flags lie in memory, where no filter sees them; told that there is none, the C library takes clone.
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]
    calls += [
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}],
        }
        for value in _PERSONALITIES
    ]
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": [_ARCHITECTURES[machine]] if machine in _ARCHITECTURES else [],
        "syscalls": calls,
    }
