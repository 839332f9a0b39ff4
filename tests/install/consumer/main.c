// SPDX-License-Identifier: Apache-2.0

/* A program that names neither malloc nor any symbol of tarn: only libc allocates in it. This is the
   program that a linker with --as-needed leaves tarn out of, unless tarn's build files see to it. */
#include <stdio.h>

int main(void) { return puts("hello") == EOF; }
