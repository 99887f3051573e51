/* SPDX-License-Identifier: Apache-2.0
 *
 * A stub per symbol that is only passed through: one indirect jump, which leaves every argument where it is, so no stub needs to know its
 * function's signature. The target of a stub is at first its own second half, which has the symbol looked up in the library below; from then on it
 * is the real function.
 *
 * MICA_SYMBOLS names the file with the list, one PASS(name) or DENY(name) a line.
 */
#if defined(__x86_64__)

    .macro pass name
    .text
    .p2align 4
    .globl \name
    .type \name, @function
\name:
    jmp *.Ltarget_\name(%rip)
.Lfirst_\name:
    leaq .Ltarget_\name(%rip), %r11
    jmp .Lresolve
    .size \name, . - \name
    .data
.Ltarget_\name:
    .quad .Lfirst_\name
    .endm

    .text
    .p2align 4
    .type .Lresolve, @function
.Lresolve: /* r11: address of the target word. Keeps all argument registers. */
    .cfi_startproc
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    pushq %rax
    subq $128, %rsp
    .cfi_def_cfa_offset 192
    movups %xmm0, (%rsp)
    movups %xmm1, 16(%rsp)
    movups %xmm2, 32(%rsp)
    movups %xmm3, 48(%rsp)
    movups %xmm4, 64(%rsp)
    movups %xmm5, 80(%rsp)
    movups %xmm6, 96(%rsp)
    movups %xmm7, 112(%rsp)
    movq %r11, %rdi
    call mica_pass_resolve
    movq %rax, %r11
    movups (%rsp), %xmm0
    movups 16(%rsp), %xmm1
    movups 32(%rsp), %xmm2
    movups 48(%rsp), %xmm3
    movups 64(%rsp), %xmm4
    movups 80(%rsp), %xmm5
    movups 96(%rsp), %xmm6
    movups 112(%rsp), %xmm7
    addq $128, %rsp
    popq %rax
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    .cfi_def_cfa_offset 8
    jmp *%r11
    .cfi_endproc

#elif defined(__aarch64__)

    .macro pass name
    .text
    .p2align 4
    .globl \name
    .type \name, %function
\name:
    adrp x17, .Ltarget_\name
    ldr x16, [x17, :lo12:.Ltarget_\name]
    br x16
.Lfirst_\name:
    adrp x17, .Ltarget_\name
    add x17, x17, :lo12:.Ltarget_\name
    b .Lresolve
    .size \name, . - \name
    .data
.Ltarget_\name:
    .quad .Lfirst_\name
    .endm

    .text
    .p2align 4
    .type .Lresolve, %function
.Lresolve: /* x17: address of the target word. Keeps all argument registers. */
    stp x29, x30, [sp, #-224]!
    mov x29, sp
    stp x0, x1, [sp, #16]
    stp x2, x3, [sp, #32]
    stp x4, x5, [sp, #48]
    stp x6, x7, [sp, #64]
    str x8, [sp, #80]
    stp q0, q1, [sp, #96]
    stp q2, q3, [sp, #128]
    stp q4, q5, [sp, #160]
    stp q6, q7, [sp, #192]
    mov x0, x17
    bl mica_pass_resolve
    mov x16, x0
    ldp x0, x1, [sp, #16]
    ldp x2, x3, [sp, #32]
    ldp x4, x5, [sp, #48]
    ldp x6, x7, [sp, #64]
    ldr x8, [sp, #80]
    ldp q0, q1, [sp, #96]
    ldp q2, q3, [sp, #128]
    ldp q4, q5, [sp, #160]
    ldp q6, q7, [sp, #192]
    ldp x29, x30, [sp], #224
    br x16

#else
#error "no pass-through stub for this architecture: a jump through a word is needed"
#endif

    .data
    .p2align 3
    .globl mica_pass_targets
    .hidden mica_pass_targets
mica_pass_targets:

#define PASS(name) pass name
#define DENY(name) pass name
#include MICA_SYMBOLS

    .section .note.GNU-stack, "", %progbits
