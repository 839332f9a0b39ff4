// SPDX-License-Identifier: Apache-2.0
//
// Files, as the profile writer needs them: written and read in pieces, by bare system calls.
//
// open(2) and its kin are cancellation points in libc, which functions of an allocator must not be (see small_file.h).
// All functions retry what a signal interrupted; what fails leaves the reason in errno.
#pragma once

#include <cstddef>
#include <string_view>

namespace tarn {

// Creates the file, or empties it; readable and writable by its owner alone, since stacks disclose a program's secrets.
// The descriptor, or -1.
int CreateFile(const char* path);
// The same, but a file that exists is left alone (EEXIST), and a symbolic link is not followed.
int CreateNewFile(const char* path);
// Opens the file to write behind its end; one that is new is its owner's alone. The descriptor, or -1.
int OpenToAppend(const char* path);
// The descriptor, or -1.
int OpenToRead(const char* path);
// False: it may have been written in part.
bool WriteAll(int descriptor, const void* data, std::size_t bytes);
// Bytes read, 0 at the end, -1 on an error.
std::ptrdiff_t ReadSome(int descriptor, void* data, std::size_t bytes);
// False: data may have been lost.
bool CloseFile(int descriptor);
// Keeps errno.
void RemoveFile(const char* path);

// Describes an errno of these functions, for people; empty for one that hardly comes.
std::string_view FileErrorText(int error);

}  // namespace tarn
