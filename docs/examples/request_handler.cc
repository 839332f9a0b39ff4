// SPDX-License-Identifier: Apache-2.0
//
// A request handler on an arena: everything that a request makes dies with it, in one step, and the memory of the last
// request serves the next one.
#include <tarn/arena.h>

#include <cstdio>
#include <memory_resource>
#include <string>
#include <vector>

namespace {

struct Request {
  std::string_view path;
  std::pmr::vector<std::string_view> parts;
};

Request* Parse(tarn::Arena& arena, std::string_view line) {
  auto* request = arena.Create<Request>(Request{arena.Copy(line), std::pmr::vector<std::string_view>(&arena)});
  std::string_view rest = request->path;
  while (!rest.empty()) {
    const std::size_t slash = std::min(rest.find('/'), rest.size());
    if (slash != 0) request->parts.push_back(rest.substr(0, slash));
    rest.remove_prefix(std::min(slash + 1, rest.size()));
  }
  return request;
}

std::size_t Answer(tarn::Arena& arena, const Request& request) {
  std::pmr::string answer(&arena);
  for (const std::string_view part : request.parts) answer.append("<li>").append(part).append("</li>");
  return answer.size();
}

}  // namespace

int main() {
  tarn::Arena arena("requests");
  std::size_t answered = 0;
  std::size_t capacity_bytes = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::string line = "/users/" + std::to_string(i) + "/orders/latest/items";
    answered += Answer(arena, *Parse(arena, line));
    arena.Reset();
    // The second request and all later ones need no memory that the first had not.
    if (i == 1) capacity_bytes = arena.Stats().capacity_bytes;
  }
  std::printf("%zu bytes of answers, %zu bytes of arena\n", answered, arena.Stats().capacity_bytes);
  return arena.Stats().capacity_bytes == capacity_bytes && answered > 400000 ? 0 : 1;
}
