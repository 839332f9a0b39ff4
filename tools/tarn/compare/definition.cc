// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/definition.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "tools/base/suggestion.h"
#include "tools/tarn/compare/words.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

using nlohmann::json;

constexpr double kTimeoutSeconds = 300;
constexpr double kMostSeconds = 1e6;
constexpr double kMostRuns = 1e5;

// Settings of allocators reach the program from the caller's environment, and nothing else does.
constexpr std::string_view kPassedOn[] = {"TARN_", "MIMALLOC_", "MALLOC_", "GLIBC_TUNABLES="};
// Where the tests find what was built.
constexpr std::string_view kNotSettings[] = {"TARN_LIB=", "TARN_BUILD="};

std::vector<std::string> CleanEnvironment() {
  std::vector<std::string> environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME={scratch}", "TMPDIR={scratch}",
                                          "LC_ALL=C.UTF-8", "TZ=UTC"};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const auto begins = [&](std::string_view start) { return std::string_view(*entry).starts_with(start); };
    if (std::ranges::any_of(kPassedOn, begins) && std::ranges::none_of(kNotSettings, begins))
      environment.emplace_back(*entry);
  }
  return environment;
}

// The members of one object of the file. What is read is ticked off, so that a misspelt member is found.
class Members {
 public:
  Members(const json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object.is_object()) Refuse("", "an object");
  }

  std::string Text(const char* name) {
    const json* value = Find(name);
    if (value == nullptr) return "";
    if (!value->is_string()) Refuse(name, "a string");
    return value->get<std::string>();
  }

  double Number(const char* name, double otherwise) {
    const json* value = Find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_number() || !(value->get<double>() > 0) || value->get<double>() > kMostSeconds)
      Refuse(name, "a number above 0");
    return value->get<double>();
  }

  bool Flag(const char* name, bool otherwise) {
    const json* value = Find(name);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) Refuse(name, "true or false");
    return value->get<bool>();
  }

  int Count(const char* name) {
    const json* value = Find(name);
    if (value == nullptr) return 0;
    if (!value->is_number_integer() || value->get<double>() < 1 || value->get<double>() > kMostRuns)
      Refuse(name, "a whole number above 0");
    return value->get<int>();
  }

  std::vector<std::string> Words(const char* name) {
    const json* value = Find(name);
    return value == nullptr ? std::vector<std::string>{} : WordsOf(name, *value);
  }

  std::vector<std::vector<std::string>> Commands(const char* name) {
    const json* value = Find(name);
    std::vector<std::vector<std::string>> commands;
    if (value == nullptr) return commands;
    if (!value->is_array()) Refuse(name, "a list of commands");
    for (const json& command : *value) {
      commands.push_back(WordsOf(name, command));
      if (commands.back().empty()) Refuse(name, "a list of commands, none of them empty");
    }
    return commands;
  }

  const json* Find(const char* name) {
    read_.emplace_back(name);
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  void RefuseOthers() const {
    for (const auto& [name, value] : object_.items()) {
      if (std::ranges::find(read_, name) != read_.end()) continue;
      const std::vector<std::string_view> known(read_.begin(), read_.end());
      throw ToolError(fmt::format("{}: unknown member {}{}", where_, name, Suggestion(name, known)));
    }
  }

  [[noreturn]] void Refuse(std::string_view name, std::string_view expected) const {
    throw ToolError(fmt::format("{}: {}expected {}", where_, name.empty() ? "" : fmt::format("{}: ", name), expected));
  }

 private:
  std::vector<std::string> WordsOf(const char* name, const json& value) const {
    std::vector<std::string> words;
    if (!value.is_array()) Refuse(name, "a list of strings");
    for (const json& word : value) {
      if (!word.is_string()) Refuse(name, "a list of strings");
      words.push_back(word.get<std::string>());
    }
    return words;
  }

  const json& object_;
  std::string where_;
  std::vector<std::string> read_;
};

json ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ToolError(fmt::format("cannot read {}: {}", path, strerror(errno)));
  try {
    return json::parse(file);
  } catch (const json::parse_error& problem) {
    throw ToolError(fmt::format("{} is not JSON (at byte {})", path, problem.byte));
  }
}

std::vector<Measure> ReadMeasures(Members* members, const std::string& where) {
  std::vector<Measure> measures;
  const json* list = members->Find("measures");
  if (list == nullptr) return measures;
  if (!list->is_array()) members->Refuse("measures", "a list of objects");
  for (const json& entry : *list) {
    Members measure(entry, where + ": measures");
    measures.push_back({measure.Text("measure"), measure.Text("title")});
    if (measures.back().name.empty()) measure.Refuse("measure", "the name of a figure, such as cpu_s");
    measure.RefuseOthers();
  }
  return measures;
}

Service ReadService(Members* members, const std::string& where) {
  const json* object = members->Find("service");
  if (object == nullptr) return {};
  Members service(*object, where + ": service");
  Service result = {service.Words("ready"), service.Words("load"), service.Words("check")};
  if (result.ready.empty()) service.Refuse("ready", "a command that succeeds once the server serves");
  if (result.load.empty()) service.Refuse("load", "the command that is the load");
  service.RefuseOthers();
  return result;
}

// Adds the arguments and the runs of an amount to a definition. False where the workload has no such amount.
bool ApplyAmount(Members* members, const std::string& where, const std::string& amount, Definition* definition) {
  const json* amounts = members->Find("amounts");
  if (amounts == nullptr) return amount.empty();
  if (!amounts->is_object()) members->Refuse("amounts", "an object");
  bool found = amount.empty();
  for (const auto& [name, entry] : amounts->items()) {
    Members one(entry, fmt::format("{}: amounts: {}", where, name));
    const std::vector<std::string> arguments = one.Words("arguments");
    const int runs = one.Count("runs");
    std::vector<std::string> placements = one.Words("placements");
    one.RefuseOthers();
    definition->amounts.push_back(name);
    if (name != amount) continue;
    found = true;
    std::vector<std::string>& command = definition->launch.command;
    command.insert(command.end(), arguments.begin(), arguments.end());
    if (runs != 0) definition->runs = runs;
    definition->placements = std::move(placements);
  }
  return found;
}

// A program by name is looked up now, rather than in the middle of a run.
void Resolve(std::vector<std::string>* command) {
  if (!command->empty() && command->front().find('/') == std::string::npos)
    command->front() = FindProgram(command->front());
}

// The definition, and whether it has the amount.
std::pair<Definition, bool> ReadOne(const json& document, const std::string& path, const std::string& amount) {
  Members members(document, path);
  Definition definition;
  Launch& launch = definition.launch;
  definition.name = members.Text("name");
  definition.description = members.Text("description");
  definition.kind = members.Text("kind");
  definition.operations = members.Text("operations");
  definition.runs = members.Count("runs");
  definition.control = members.Flag("control", true);
  definition.measures = ReadMeasures(&members, path);
  definition.needs = members.Words("needs");
  definition.prepare = members.Commands("prepare");
  launch.command = members.Words("command");
  if (launch.command.empty()) members.Refuse("command", "the command to measure");
  launch.environment = CleanEnvironment();
  for (const std::string& entry : members.Words("environment")) {
    if (entry.find('=') == std::string::npos) members.Refuse("environment", "a list of NAME=VALUE");
    launch.environment.push_back(entry);
  }
  if (const std::string input = members.Text("input"); !input.empty()) launch.input = input;
  launch.outputs = members.Words("outputs");
  launch.watch = members.Text("watch");
  launch.service = ReadService(&members, path);
  launch.timeout_s = members.Number("timeout_s", kTimeoutSeconds);
  launch.working_directory = "{scratch}";
  const bool wanted = ApplyAmount(&members, path, amount, &definition);
  members.RefuseOthers();
  if (definition.name.empty()) definition.name = std::filesystem::path(path).stem().string();
  if (definition.kind.empty()) definition.kind = "speed";
  definition.here = std::filesystem::absolute(path).parent_path().string();
  return {std::move(definition), wanted};
}

}  // namespace

std::vector<Definition> ReadDefinitions(const std::string& path, const std::string& amount,
                                        std::map<std::string, std::vector<std::string>>* others) {
  const json document = ReadFile(path);
  std::vector<Definition> definitions;
  const auto add = [&](const json& one) {
    auto [definition, wanted] = ReadOne(one, path, amount);
    if (wanted) {
      definitions.push_back(std::move(definition));
    } else {
      (*others)[definition.name] = definition.amounts;
    }
  };
  if (!document.is_array()) {
    add(document);
    return definitions;
  }
  if (document.empty()) throw ToolError(fmt::format("{}: expected at least one definition", path));
  std::set<std::string> names;
  for (const json& one : document) add(one);
  for (const Definition& definition : definitions) {
    if (!names.insert(definition.name).second)
      throw ToolError(fmt::format("{}: two workloads are named {}", path, definition.name));
  }
  return definitions;
}

void ResolvePrograms(Definition* definition) {
  for (const std::string& program : definition->needs) {
    try {
      FindProgram(program);
    } catch (const ToolError&) {
      throw ToolError(
          fmt::format("{}: {} is missing; tools/install_packages programs installs it", definition->name, program));
    }
  }
  Launch& launch = definition->launch;
  for (std::vector<std::string>& command : definition->prepare) Resolve(&command);
  for (std::vector<std::string>* words :
       {&launch.command, &launch.service.ready, &launch.service.load, &launch.service.check})
    Resolve(words);
  // Files that the build has to supply are looked for now, too. The inputs do not exist yet.
  const std::string& program = launch.command.front();
  if (!program.starts_with("{build}")) return;
  const std::string path = Replaced(program, {{"build", BuildDirectory()}});
  if (access(path.c_str(), X_OK) != 0)
    throw ToolError(
        fmt::format("{}: {} is missing; build the target all, with TARN_BUILD_BENCH=ON", definition->name, path));
}

std::string BuildDirectory() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path().parent_path().string();
}

}  // namespace tarn::tool
