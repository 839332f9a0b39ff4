// SPDX-License-Identifier: Apache-2.0
//
// Finds the end of a request by its head, before all of it is there.
#pragma once

#include <cstddef>
#include <string_view>

namespace tarn::tool {

struct RequestFrame {
  std::string_view method;
  std::string_view path;  // as it was sent, without the query
  // Of a request with a body that is read.
  std::size_t body_bytes = 0;
  int refusal = 0;  // the status to refuse it with; 0: there is nothing against it
};

// `head` is a request's first line and headers with the empty line at the end; the result refers to it. Strict, because
// a proxy in front may understand a careless head in another way. 400 for a line that ends with less than CR LF or
// begins with a blank. 400 for a Content-Length that is not a number or there twice. 411 for any Transfer-Encoding, 413
// for a body of more than `most_body_bytes`. Without a Content-Length there is no body.
RequestFrame ReadFrame(std::string_view head, std::size_t most_body_bytes);

}  // namespace tarn::tool
