# SPDX-License-Identifier: Apache-2.0
#
# Functions with known hit paths, for fast_path_test.py. Each is global; its name says what the walk
# has to say about it. The numbers are those of the instructions on the hit path.

	.text

	.globl	malloc
	.type	malloc, @function
malloc:				# 9: two exits, and a plain jump over cold code.
	cmpq	$1024, %rdi
	ja	.Lmalloc_large
	movq	table(%rip), %rax
	testq	%rax, %rax
	je	malloc_cold
	jmp	.Lmalloc_rest
.Lmalloc_large:
	pushq	%rbp
	call	malloc_cold
	popq	%rbp
	ret
.Lmalloc_rest:
	leaq	8(%rsp), %rdx
	addq	$-8, %rax
	ret

	.globl	free
	.type	free, @function
free:				# 29, which is exactly what is allowed.
	.rept	28
	incq	%rax
	.endr
	rep ret

	.globl	_Znwm
	.type	_Znwm, @function
_Znwm:				# 10: a tail call of malloc.
	jmp	malloc

	.globl	_ZdlPvm
	.type	_ZdlPvm, @function
_ZdlPvm:			# 2: the exit goes backwards, out of the function, as cold code does.
	jc	malloc_cold
	ret

	.globl	with_call
	.type	with_call, @function
with_call:
	testq	%rdi, %rdi
	call	malloc_cold
	ret

	.globl	with_indirect_call
	.type	with_indirect_call, @function
with_indirect_call:
	call	*table(%rip)
	ret

	.globl	with_indirect_jump
	.type	with_indirect_jump, @function
with_indirect_jump:
	jmp	*table(%rip)

	.globl	with_push
	.type	with_push, @function
with_push:
	pushq	%rbx
	popq	%rbx
	ret

	.globl	with_frame
	.type	with_frame, @function
with_frame:
	subq	$24, %rsp
	addq	$24, %rsp
	ret

	.globl	with_lock
	.type	with_lock, @function
with_lock:
	lock incq table(%rip)
	ret

	.globl	with_xchg
	.type	with_xchg, @function
with_xchg:
	xchgq	%rax, table(%rip)
	ret

	.globl	with_loop
	.type	with_loop, @function
with_loop:
	decq	%rdi
	jne	with_loop
	ret

	.globl	with_circle
	.type	with_circle, @function
with_circle:
	nop
	jmp	with_circle

	.globl	with_trap
	.type	with_trap, @function
with_trap:
	ud2

	.globl	without_end
	.type	without_end, @function
without_end:
	.rept	300
	incq	%rax
	.endr
	ret

	# Cold code stands in front of .text in a linked library.
	.section .text.unlikely, "ax", @progbits
malloc_cold:
	ret

	.data
	.hidden	table
table:
	.quad	0

	.section .note.GNU-stack, "", @progbits
