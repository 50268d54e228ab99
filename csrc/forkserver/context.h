/* What differs between the processors: where a thread was interrupted, and how it continues. */
#pragma once

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>

/* The calls that the kernel restarts after a handler, by stepping back onto the instruction
 * (SA_RESTART). Waiting calls that are not here end with EINTR. */
static inline bool restarts(long call) {
    switch (call) {
    case SYS_futex:
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_wait4:
    case SYS_waitid:
        return true;
    default:
        return false;
    }
}

#if defined(__x86_64__)

enum { RSEQ_SIGNATURE = 0x53053053 };

static inline bool is_syscall(const uint8_t *code) {
    return code[0] == 0x0f && code[1] == 0x05;
}

/* Whether the thread was waiting in the kernel. The result is looked at first: next to an
 * arbitrary instruction there may be no memory to look at. */
static inline bool was_waiting(const ucontext_t *c) {
    const uint8_t *next = (const uint8_t *)c->uc_mcontext.gregs[REG_RIP];
    long result = (long)c->uc_mcontext.gregs[REG_RAX];
    return (result == -EINTR && is_syscall(next - 2)) || (restarts(result) && is_syscall(next));
}

/* Return from the signal handler whose frame this is, on a thread that has not entered it. */
static inline _Noreturn void go_on(siginfo_t *info, ucontext_t *c) {
    (void)info;
    __asm__ volatile("mov %0, %%rsp\n\tsyscall" : : "r"(c), "a"((long)SYS_rt_sigreturn) : "memory");
    __builtin_unreachable();
}

#elif defined(__aarch64__)

enum { RSEQ_SIGNATURE = (int)0xd428bc00 };

static inline bool is_syscall(const uint32_t *code) {
    return *code == 0xd4000001;
}

static inline bool was_waiting(const ucontext_t *c) {
    const uint32_t *next = (const uint32_t *)c->uc_mcontext.pc;
    long result = (long)c->uc_mcontext.regs[0], call = (long)c->uc_mcontext.regs[8];
    return (result == -EINTR && is_syscall(next - 1)) || (restarts(call) && is_syscall(next));
}

static inline _Noreturn void go_on(siginfo_t *info, ucontext_t *c) {
    (void)c;
    register long call __asm__("x8") = SYS_rt_sigreturn;
    __asm__ volatile("mov sp, %0\n\tsvc #0" : : "r"(info), "r"(call) : "memory");
    __builtin_unreachable();
}

#else
#error "this processor is not known"
#endif
