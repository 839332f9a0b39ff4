// SPDX-License-Identifier: Apache-2.0

/* The C API: an arena, a fixed pool, an object pool, a pool of used objects and a heap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tarn/arena.h>
#include <tarn/concurrent_arena.h>
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/object_pool.h>
#include <tarn/pool.h>
#include <tarn/registry.h>

static void drop(void* object, void* context) {
  (void)context;
  free(object);
}

int main(void) {
  int wrong = 0;

  tarn_arena arena;
  tarn_arena_options arena_options = {0};
  arena_options.name = "c arena";
  tarn_arena_init(&arena, &arena_options);
  char* text = tarn_arena_allocate(&arena, 6, 1);
  memcpy(text, "hello", 6);
  wrong += strcmp(text, "hello") != 0;
  wrong += strcmp(tarn_registry()[0].name, "c arena") != 0;
  tarn_arena_reset(&arena);
  tarn_arena_destroy(&arena);

  tarn_concurrent_arena* shared = tarn_concurrent_arena_create(NULL);
  wrong += tarn_concurrent_arena_allocate(shared, 100, 8) == NULL;
  tarn_concurrent_arena_destroy(shared);

  tarn_fixed_pool_options fixed_options = {0};
  fixed_options.block_bytes = 32;
  fixed_options.block_count = 1;
  tarn_fixed_pool* fixed = tarn_fixed_pool_create(&fixed_options);
  void* block = tarn_fixed_pool_allocate(fixed);
  wrong += block == NULL || tarn_fixed_pool_allocate(fixed) != NULL;
  tarn_fixed_pool_free(fixed, block);
  tarn_fixed_pool_destroy(fixed);

  tarn_object_pool_options object_options = {0};
  object_options.object_bytes = 48;
  tarn_object_pool* objects = tarn_object_pool_create(&object_options);
  void* object = tarn_object_pool_allocate(objects);
  wrong += tarn_object_pool_get_stats(objects).live_objects != 1;
  tarn_object_pool_free(objects, object);
  tarn_object_pool_destroy(objects);

  tarn_pool_options pool_options = {0};
  pool_options.drop = drop;
  tarn_pool* pool = tarn_pool_create(&pool_options);
  void* used = tarn_pool_get(pool);
  wrong += used != NULL;
  used = malloc(100);
  tarn_pool_put(pool, used);
  wrong += tarn_pool_get(pool) != used;
  tarn_pool_put(pool, used);
  tarn_pool_destroy(pool);

  tarn_heap* heap = tarn_heap_create(NULL);
  void* grown = tarn_heap_reallocate(heap, tarn_heap_allocate(heap, 10, 16), 10000);
  wrong += tarn_heap_usable_bytes(heap, grown) < 10000;
  tarn_heap_destroy(heap);

  printf("%d wrong\n", wrong);
  return wrong == 0 ? 0 : 1;
}
