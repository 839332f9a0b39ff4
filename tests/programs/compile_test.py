#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A C++ compiler: the same object file to the byte, and a program that runs to the same output.

The second argument is gcc or clang.
"""

import hashlib
import os

import programs

HEAD = """
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <numeric>
#include <regex>
#include <string>
#include <thread>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N> struct Sum { static constexpr long value = N + Sum<N - 1>::value; };
template <> struct Sum<0> { static constexpr long value = 0; };

template <typename... Ts> auto Describe(const std::tuple<Ts...>& all) {
  std::string text;
  std::apply([&](const auto&... each) { ((text += std::to_string(each) + ","), ...); }, all);
  return text;
}
"""

PART = """
namespace part{n} {{
struct Node {{ std::unique_ptr<Node> left, right; long key; }};
void Insert(std::unique_ptr<Node>& node, long key) {{
  if (!node) {{ node = std::make_unique<Node>(); node->key = key; return; }}
  Insert(key < node->key ? node->left : node->right, key);
}}
long Walk(const std::unique_ptr<Node>& node) {{
  return node ? Walk(node->left) + node->key % {n}1 + Walk(node->right) : 0;
}}
std::string Work(unsigned seed) {{
  std::map<std::string, std::vector<std::variant<int, std::string>>> table;
  std::unordered_map<long, std::function<long(long)>> functions;
  std::unique_ptr<Node> tree;
  for (int i = 0; i < 3000; ++i) {{
    seed = seed * 1103515245u + 12345u;
    table["key" + std::to_string(seed % {n}7)].push_back(std::to_string(seed));
    functions[i] = [seed](long x) {{ return x * (seed % 5) + Sum<{n}0>::value; }};
    Insert(tree, seed % 100000);
  }}
  std::regex pattern("[1-4]+{n}");
  long matches = 0;
  for (auto& [key, values] : table)
    for (auto& value : values)
      if (std::regex_search(std::get<std::string>(value), pattern)) ++matches;
  long total = 0;
  for (long i = 0; i < 3000; ++i) total += functions[i](i);
  return Describe(std::make_tuple(matches, total, Walk(tree), {n}, {n}.5));
}}
}}  // namespace part{n}
"""

PARTS = 2


def make_source():
    parts = "".join(PART.format(n=number) for number in range(1, PARTS + 1))
    calls = "".join(
        f"  workers.emplace_back([&] {{ texts[{n - 1}] = part{n}::Work({n}); }});\n"
        for n in range(1, PARTS + 1)
    )
    return (
        HEAD
        + parts
        + f"int main() {{\n  std::vector<std::string> texts({PARTS});\n"
        + f"  std::vector<std::thread> workers;\n{calls}"
        + "  for (auto& worker : workers) worker.join();\n"
        + "  for (auto& text : texts) std::cout << text << '\\n';\n}\n"
    )


def test(stage, family):
    if family == "gcc":
        compiler = programs.find_program("g++")
        inner = "cc1plus"
    else:
        compiler = programs.find_program("clang++-14", "clang++")
        inner = "clang"
    # The optimizer allocates most, and takes most of the time: it is wanted once.
    level = "-O0" if os.environ.get("TARN_MODE") == "thread" else "-O2"
    source = stage.write("program.cc", make_source())
    hashes = []
    for tarn in (False, True):
        # The same names both times, because they are part of the debug information.
        compile_it = [compiler, "-std=c++20", level, "-g", "-c", source, "-o", "program.o"]
        stage.run(compile_it, tarn=tarn)
        with open(stage.path("program.o"), "rb") as file:
            hashes.append(hashlib.sha256(file.read()).hexdigest())
    if hashes[0] != hashes[1]:
        raise programs.Difference("the object file differs from the one made on glibc")
    stage.run([compiler, "program.o", "-o", "program", "-pthread"])
    done = stage.compare([stage.path("program")])
    if len(done.stdout.splitlines()) != PARTS:
        raise programs.Failure(f"the program says {programs.short(done.stdout)}")
    # A source with an error: the way out of a compiler that has allocated much.
    broken = stage.write("broken.cc", make_source() + "int broken = std::string(5, missing);\n")
    done = stage.run([compiler, "-std=c++20", "-fsyntax-only", broken], check=False)
    if done.returncode != 1 or b"missing" not in done.stderr:
        raise programs.Failure(f"an error in the source: exit {done.returncode}")
    stage.require_witnessed("program")
    if not any(inner in name for name in stage.witnessed()):
        raise programs.Failure(f"{inner} was not seen on tarn, only {sorted(stage.witnessed())}")


if __name__ == "__main__":
    programs.main(test)
