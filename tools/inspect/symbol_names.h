// SPDX-License-Identifier: Apache-2.0
//
// Names of functions and files for people.
#pragma once

#include <string>
#include <string_view>

namespace tarn::tool {

// "_ZN5CacheIiE6InsertEi.isra.0" becomes "Cache<int>::Insert": demangled, without parameters, return type and the
// compiler's suffix of a clone, with template arguments. What is not mangled only loses the suffix.
std::string DisplayName(const std::string& symbol);

// "void ns::f<int>(int) const" becomes "ns::f<int>". What is not understood comes back as it is.
std::string StripSignature(std::string_view demangled);

// The part behind the last slash.
std::string BaseName(const std::string& path);

}  // namespace tarn::tool
