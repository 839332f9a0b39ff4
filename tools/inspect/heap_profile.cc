// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/heap_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <unordered_map>
#include <utility>

#include "tools/inspect/symbolizer.h"

namespace tarn::tool {

namespace {

// Weights are in parts of an object, and of a process that runs: never negative, never more than a number holds.
std::int64_t Objects(std::uint64_t weight) {
  constexpr std::uint64_t kOne = TARN_SAMPLE_WEIGHT_ONE;
  return static_cast<std::int64_t>(weight / kOne + (weight % kOne >= kOne / 2 ? 1 : 0));
}

std::int64_t Bytes(std::int64_t objects, std::uint64_t size) {
  std::int64_t bytes = 0;
  return __builtin_mul_overflow(objects, size, &bytes) ? INT64_MAX : bytes;
}

// Adds the bytes of an arena, pool or heap with a name, as observe/profile_writer.cc does. No stack allocated these, so
// each has a function of its own, and labels.
void AddNamedPool(const tarn_registry_record& record, Profile* profile) {
  if (record.capacity_bytes <= 0) return;
  const char* const kind = tarn_kind_name(record.kind);
  const StringId name = profile->strings.Intern(fmt::format("[{} {}]", kind, record.name));
  Profile::Location location;
  location.lines.push_back({static_cast<std::uint32_t>(profile->functions.size()), 0});
  profile->functions.push_back({name, name, 0, 0});
  Profile::Sample sample;
  sample.locations.push_back(static_cast<std::uint32_t>(profile->locations.size()));
  profile->locations.push_back(std::move(location));
  const std::int64_t objects = std::max<std::int64_t>(record.live_objects, 0);
  const auto allocations = static_cast<std::int64_t>(std::min<std::uint64_t>(record.allocations, INT64_MAX));
  sample.values = {std::max(allocations, objects), record.capacity_bytes, objects, record.capacity_bytes};
  sample.labels.push_back({profile->strings.Intern("pool"), profile->strings.Intern(record.name), 0, 0});
  sample.labels.push_back({profile->strings.Intern("kind"), profile->strings.Intern(kind), 0, 0});
  profile->samples.push_back(std::move(sample));
}

}  // namespace

Profile ReadHeapProfile(const Target& target) {
  tarn_snapshot_profile table;
  if (!target.reader().ReadProfile(&table)) target.Lost();
  Profile profile = NewHeapProfile(static_cast<std::int64_t>(table.rate_bytes));
  const StringId bytes = profile.strings.Intern("bytes");

  std::unordered_map<std::uint64_t, std::uint32_t> locations;
  const bool read = target.reader().ForEachBucket([&](const tarn_snapshot_bucket& bucket, const std::uint64_t* frames) {
    Profile::Sample sample;
    for (std::uint32_t i = 0; i < bucket.frames; ++i) {
      const auto [found, is_new] =
          locations.try_emplace(frames[i], static_cast<std::uint32_t>(profile.locations.size()));
      if (is_new) profile.locations.emplace_back().address = frames[i];
      sample.locations.push_back(found->second);
    }
    const std::int64_t allocated = Objects(bucket.allocated_weight);
    // A free may have been counted between the reads of the two.
    const std::int64_t in_use =
        bucket.allocated_weight > bucket.freed_weight ? Objects(bucket.allocated_weight - bucket.freed_weight) : 0;
    sample.values = {allocated, Bytes(allocated, bucket.size_bytes), in_use, Bytes(in_use, bucket.size_bytes)};
    sample.labels.push_back({bytes, 0, static_cast<std::int64_t>(bucket.size_bytes), bytes});
    profile.samples.push_back(std::move(sample));
    return true;
  });
  if (!read) target.Lost();
  if (!target.reader().ForEachNamedPool([&](const tarn_registry_record& record) { AddNamedPool(record, &profile); }))
    target.Lost();

  // Only now, because a stack may lead through a library that was loaded while the table was read.
  AddMappings(ReadCode(target.memory(), MapsOfTarget(target.memory())), &profile);
  // Behind it: these may be the mappings of another program by now.
  if (!target.reader().ReadProfile(&table)) target.Lost();
  for (Profile::Location& location : profile.locations) location.mapping = FindMapping(profile, location.address);

  using namespace std::chrono;
  profile.time_ns = duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
  profile.comments.push_back(profile.strings.Intern(
      fmt::format("tarn {}, process {} ({})", target.reader().block().library_version, target.pid(), target.name())));
  if (table.dropped_samples != 0)
    profile.comments.push_back(
        profile.strings.Intern(fmt::format("{} samples are missing for want of memory", table.dropped_samples)));
  return profile;
}

}  // namespace tarn::tool
