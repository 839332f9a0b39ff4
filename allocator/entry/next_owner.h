// SPDX-License-Identifier: Apache-2.0
//
// Pointers that are not tarn's, and the allocator that may own them: the one that the process would use without tarn.
//
// Such pointers come from libraries that were loaded with RTLD_DEEPBIND and call libc's malloc. Others come from
// __libc_malloc, from a second libc (dlmopen), or were handed out by libc before tarn was loaded. The next owner is the
// first object behind tarn, in the loader's order, that defines free; in most processes this is libc. Libc ends the
// process over a pointer that it does not know. So it is called only where the pointer looks like its own and it is the
// only libc that has handed out memory. The same holds for a second libc. Any other owner is trusted to know what it
// owns.
//
// Only the paths that would report misuse come here. Nothing is asked under a lock of tarn.
#pragma once

#include <cstddef>

namespace tarn {

// Each returns false, and has done nothing, where there is no next owner, or it is libc and does not own the object.
[[nodiscard]] bool FreeByNextOwner(void* object);
[[nodiscard]] bool ReallocateByNextOwner(void* object, std::size_t bytes, void** result);
[[nodiscard]] bool UsableBytesByNextOwner(const void* object, std::size_t* bytes);

}  // namespace tarn
