#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gdb on tarn, debugging a program on tarn: breakpoints, backtraces, threads, calls, watchpoints."""

import programs

PROGRAM = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node { struct node* next; int value; char name[20]; };

static pthread_barrier_t barrier;

static struct node* make_list(int length) {
  struct node* list = NULL;
  for (int i = 0; i < length; ++i) {
    struct node* node = malloc(sizeof *node);
    node->next = list;
    node->value = i * i;
    snprintf(node->name, sizeof node->name, "node %d", i);
    list = node;
  }
  return list;
}

static int sum_of(const struct node* list) {
  int sum = 0;
  for (; list != NULL; list = list->next) sum += list->value;
  return sum;
}

static void* run_thread(void* argument) {
  struct node* list = make_list(100);
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  *(int*)argument = sum_of(list);
  return NULL;
}

static void free_list(struct node* list) {
  while (list != NULL) {
    struct node* next = list->next;
    free(list);
    list = next;
  }
}

void everybody_is_here(void) {}

int main(void) {
  struct node* list = make_list(1000);
  int sums[2] = {0, 0};
  pthread_t threads[2];
  pthread_barrier_init(&barrier, NULL, 3);
  for (int i = 0; i < 2; ++i) pthread_create(&threads[i], NULL, run_thread, &sums[i]);
  pthread_barrier_wait(&barrier);
  everybody_is_here();
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], NULL);
  int sum = sum_of(list) + sums[0] + sums[1];
  free_list(list);
  printf("sum %d\n", sum);
  return sum == 333490200 ? 0 : 1;
}
"""

COMMANDS = r"""
set pagination off
set confirm off
set print thread-events off
break everybody_is_here
run
backtrace
up
print *list
print *list->next->next
print sum_of(list)
# The debugged program allocates at gdb's command.
print sum_of(make_list(10))
set $made = make_list(3)
print $made->name
print free_list($made)
info threads
tbreak free_list
continue
backtrace 2
watch list->value if 0
delete
python
import gdb
def count(node):
    number = 0
    while node != 0:
        number += 1
        node = node['next']
    return number
print('nodes', count(gdb.parse_and_eval('list')))
print('strings', sum(len(str(n) * 3) for n in range(100000)))
end
step
next
info locals
continue
"""

EXPECTED = (
    b"Breakpoint 1, everybody_is_here",
    b"value = 998001",
    b"= 332833500",
    b"= 285",
    b'"node 2',
    b"nodes 1000",
    b"sum 333490200",
)


def normalise(output):
    """Hides what differs from run to run: addresses, ids, and which thread is reported first."""
    lines = programs.hide_numbers(output).splitlines()
    # Where a thread waits inside libc depends on the moment, and the width of the table's head on the threads' ids.
    return b"\n".join(line for line in lines if not any(word in line for word in (b"Thread", b"LWP", b"Target Id")))


def test(stage):
    gdb = programs.find_program("gdb")
    compiler = programs.find_program("gcc", "cc")
    source = stage.write("debugged.c", PROGRAM)
    commands = stage.write("commands.gdb", COMMANDS)
    stage.run([compiler, "-g", "-O0", source, "-o", "debugged", "-pthread"])
    command = [gdb, "-nx", "-batch", "-x", commands, stage.path("debugged")]
    # Symbols from the network are not needed and would be waited for.
    env = {"DEBUGINFOD_URLS": ""}
    trial = stage.run(command, tarn=False, env=env)
    for text in (b"ptrace: Operation not permitted", b"Couldn't get registers"):
        if text in trial.stdout + trial.stderr:
            raise programs.Skip("gdb may not trace programs here")
    # gdb 13 cannot call functions where the processor has registers that it does not know (AMX).
    missing = [text for text in EXPECTED if text not in trial.stdout]
    if missing:
        raise programs.Skip(f"gdb on glibc does not say {missing[0]!r}: {programs.short(trial.stderr, 5)}")
    done = stage.run(command, env=env)
    if normalise(done.stdout) != normalise(trial.stdout):
        raise programs.Difference(
            f"gdb says\n{programs.short(done.stdout, 60)}\ninstead of\n{programs.short(trial.stdout, 60)}"
        )
    stage.require_witnessed("gdb", "debugged")


if __name__ == "__main__":
    programs.main(test)
