// SPDX-License-Identifier: Apache-2.0
//
// tarn/object_pool.h in terms of a BlockPool: the handle is the pool itself.
#define TARN_C_INTERFACE_ONLY
#include "allocator/include/tarn/object_pool.h"

#include <errno.h>

#include <bit>

#include "allocator/base/attributes.h"
#include "allocator/base/text.h"
#include "allocator/base/units.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/crash.h"
#include "allocator/pools/block_pool.h"
#include "allocator/pools/checked_mode.h"
#include "allocator/pools/handle.h"
#include "allocator/pools/registry.h"

namespace tarn {

namespace {

BlockPool* Pool(tarn_object_pool* pool) { return reinterpret_cast<BlockPool*>(pool); }

}  // namespace

extern "C" {

TARN_EXPORT tarn_object_pool* tarn_object_pool_create(const tarn_object_pool_options* options) {
  if (options == nullptr) {
    errno = EINVAL;
    return nullptr;
  }
  const std::size_t alignment = options->alignment != 0 ? options->alignment : (options->object_bytes <= 8 ? 8 : 16);
  if (options->object_bytes == 0 || options->object_bytes > BlockPool::kMaxBlockBytes ||
      !std::has_single_bit(alignment) || alignment > kHugePageBytes) {
    errno = EINVAL;
    return nullptr;
  }
  PrepareThread();
  BlockPool* pool = BlockPool::Create(options->object_bytes, alignment, nullptr, IsChecked(options->checked), nullptr);
  if (pool == nullptr) {
    errno = ENOMEM;
    return nullptr;
  }
  pool->budget().limit_bytes = options->limit_bytes;
  pool->budget().record = JoinRegistry(options->name, TARN_KIND_OBJECT_POOL);
  return reinterpret_cast<tarn_object_pool*>(pool);
}

TARN_EXPORT void tarn_object_pool_destroy(tarn_object_pool* handle) {
  if (handle == nullptr) return;
  BlockPool* pool = Pool(handle);
  // Before anything of the pool is read: another thread may be ending it.
  pool->BeginDestroy("tarn_object_pool_destroy");
  tarn_registry_record* record = pool->budget().record;
  const std::size_t live_objects = pool->Stats().live_objects;
  if (pool->checked() && live_objects != 0) {
    Text<256> line;
    line << "tarn: object pool " << (record != nullptr ? record->name : "without a name") << " destroyed with "
         << std::uint64_t{live_objects} << " live objects\n";
    WriteToStderr(line.view());
  }
  pool->Destroy("tarn_object_pool_destroy");
  LeaveRegistry(record);
}

TARN_EXPORT void* tarn_object_pool_allocate(tarn_object_pool* pool) { return Pool(pool)->Allocate(); }

TARN_EXPORT void tarn_object_pool_free(tarn_object_pool* pool, void* object) {
  if (object == nullptr) [[unlikely]]
    return;
  Pool(pool)->Free(object, "tarn_object_pool_free");
}

TARN_EXPORT void tarn_object_pool_free_all(tarn_object_pool* pool) { Pool(pool)->FreeAll("tarn_object_pool_free_all"); }

TARN_EXPORT void tarn_object_pool_for_each(tarn_object_pool* pool, void (*visit)(void*, void*), void* context) {
  RequireHandle(pool, HandleKind::kBlockPool, "tarn_object_pool_for_each");
  Pool(pool)->ForEach([&](void* object) { visit(object, context); });
}

TARN_EXPORT tarn_object_pool_stats tarn_object_pool_get_stats(tarn_object_pool* pool) {
  RequireHandle(pool, HandleKind::kBlockPool, "tarn_object_pool_get_stats");
  const BlockPoolStats stats = Pool(pool)->Stats();
  return {stats.live_objects, stats.cached_objects, stats.region_bytes, stats.allocations, stats.frees};
}

// The calls are those of the C++ class, which is what its users know.
TARN_EXPORT void tarn_object_pool_begin_end(tarn_object_pool* pool) {
  Pool(pool)->BeginEndOfObjects("tarn::ObjectPool::DestroyAll");
}

TARN_EXPORT void* tarn_object_pool_next_to_end(tarn_object_pool* pool) { return Pool(pool)->NextToEnd(); }

TARN_EXPORT tarn_object_pool_claim tarn_object_pool_claim_to_end(tarn_object_pool* pool, void* object) {
  switch (Pool(pool)->ClaimToEnd(object, "tarn::ObjectPool::Destroy")) {
    case BlockPool::ToEnd::kEnded:
      return TARN_OBJECT_ENDED;
    case BlockPool::ToEnd::kClaimed:
      return TARN_OBJECT_CLAIMED;
    case BlockPool::ToEnd::kOrdinary:
      break;
  }
  return TARN_OBJECT_ORDINARY;
}

TARN_EXPORT void tarn_object_pool_finish_end(tarn_object_pool* pool) { Pool(pool)->FinishEndOfObjects(); }

}  // extern "C"

}  // namespace tarn
