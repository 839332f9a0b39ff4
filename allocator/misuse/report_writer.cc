// SPDX-License-Identifier: Apache-2.0

#include "allocator/misuse/report_writer.h"

#include <algorithm>

#include "allocator/base/text.h"
#include "allocator/os/elf_symbols.h"
#include "allocator/os/file.h"
#include "allocator/os/process.h"
#include "allocator/unwind/loaded_object.h"

namespace tarn {

namespace {

std::uintptr_t AddressOf(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

bool IsAccess(Misuse::Kind kind) {
  return kind == Misuse::kUseAfterFree || kind == Misuse::kPastEnd || kind == Misuse::kBeforeStart;
}

// A call site with what is known of it.
struct Site {
  std::uintptr_t address = 0;
  std::string_view module;
  std::uintptr_t module_offset = 0;
  ElfFunction function;
};

// The file of the program itself, which the loader does not name.
class ProgramPath {
 public:
  std::string_view view() {
    if (bytes_ == 0) bytes_ = ReadProgramPath(path_, sizeof path_);
    return {path_, bytes_};
  }

 private:
  std::size_t bytes_ = 0;
  char path_[256];
};

Site FindSite(std::uintptr_t address, ProgramPath* program) {
  Site site;
  site.address = address;
  const LoadedObject object = FindLoadedObject(address);
  if (object.name == nullptr) return site;
  site.module = *object.name != '\0' ? std::string_view(object.name) : program->view();
  site.module_offset = address - object.base;
  if (object.dynamic_section != nullptr) {
    site.function = ElfFunctionAt(object.base, static_cast<const ElfW(Dyn)*>(object.dynamic_section), address);
  }
  return site;
}

// Three stacks and the rest fit on one screen.
constexpr std::size_t kMostTextSites = 14;

void WriteSites(const StackFacts& stack, ProgramPath* program, ReportOutput* output) {
  const std::size_t shown = std::min(stack.count, kMostTextSites);
  for (std::size_t i = 0; i < shown; ++i) {
    const Site site = FindSite(stack.sites[i], program);
    *output << "    #" << i << " ";
    output->Hex(site.address);
    if (!site.function.name.empty()) {
      *output << " in " << site.function.name << "+";
      output->Hex(site.address - site.function.start);
    }
    if (!site.module.empty()) {
      *output << " (" << site.module << "+";
      output->Hex(site.module_offset) << ")";
    }
    *output << "\n";
  }
  if (shown < stack.count) *output << "    and " << stack.count - shown << " more\n";
}

void WriteStack(std::string_view title, const StackFacts& stack, ProgramPath* program, ReportOutput* output) {
  if (stack.count == 0) return;
  *output << "  " << title;
  if (stack.thread != 0) *output << " by thread " << stack.thread;
  *output << ":\n";
  WriteSites(stack, program, output);
}

// Where the address lies, seen from the object.
struct Place {
  enum Side { kInside, kBehind, kInFront } side;
  std::size_t bytes;
};

Place PlaceOf(const Misuse& misuse) {
  const std::uintptr_t address = AddressOf(misuse.address);
  const std::uintptr_t start = AddressOf(misuse.start);
  if (address < start) return {Place::kInFront, start - address};
  if (address - start < misuse.object_bytes) return {Place::kInside, address - start};
  return {Place::kBehind, address - start - misuse.object_bytes};
}

const char* Advice(Misuse::Kind kind) {
  switch (kind) {
    case Misuse::kAlreadyFree:
    case Misuse::kSpanAlreadyFree:
      return "the object has two owners that free it, or its owner keeps the pointer after the free";
    case Misuse::kUseAfterFree:
    case Misuse::kFreedOverwritten:
      return "the pointer that is used here outlives the free: find who keeps it, or free later";
    case Misuse::kPastEnd:
    case Misuse::kEndOverwritten:
      return "more is read or written than was allocated: compare the length at the access with that at the allocation";
    case Misuse::kBeforeStart:
    case Misuse::kStartOverwritten:
      return "an index is negative, or a pointer was moved in front of the object";
    case Misuse::kInteriorPointer:
      return "only the pointer that the allocation gave may be passed on";
    case Misuse::kWrongFamily:
      return "malloc goes with free, new with delete, new[] with delete[]";
    case Misuse::kWrongSize:
      return "the type or the size at the free is not that of the allocation; a base class may lack a virtual "
             "destructor";
    default:
      return nullptr;
  }
}

void WriteStackJson(std::string_view name, const StackFacts& stack, ProgramPath* program, ReportOutput* output) {
  *output << ",\"" << name << "\":{\"thread\":" << stack.thread << ",\"frames\":[";
  for (std::size_t i = 0; i < stack.count; ++i) {
    const Site site = FindSite(stack.sites[i], program);
    *output << (i == 0 ? "{" : ",{") << "\"address\":\"";
    output->Hex(site.address) << "\"";
    if (!site.module.empty()) {
      *output << ",\"module\":";
      output->Quoted(site.module) << ",\"offset\":\"";
      output->Hex(site.module_offset) << "\"";
    }
    if (!site.function.name.empty()) {
      *output << ",\"function\":";
      output->Quoted(site.function.name);
    }
    *output << "}";
  }
  *output << "]}";
}

std::string_view StateWord(MisuseReport::ObjectState state) {
  return state == MisuseReport::ObjectState::kLive ? "live" : state == MisuseReport::ObjectState::kFreed ? "freed" : "";
}

}  // namespace

ReportOutput& ReportOutput::operator<<(std::string_view text) {
  while (!text.empty()) {
    if (used_ == capacity_) Flush();
    const std::size_t bytes = CopyText(text, buffer_ + used_, capacity_ - used_);
    used_ += bytes;
    text.remove_prefix(bytes);
  }
  return *this;
}

ReportOutput& ReportOutput::operator<<(std::uint64_t number) { return *this << (Text<24>() << number).view(); }
ReportOutput& ReportOutput::Hex(std::uint64_t number) { return *this << Text<24>().Hex(number).view(); }

ReportOutput& ReportOutput::Quoted(std::string_view text) {
  *this << "\"";
  for (const char& c : text) {
    if (c == '"' || c == '\\') *this << "\\";
    // Control characters in a name tell nobody anything.
    *this << (static_cast<unsigned char>(c) < 0x20 ? std::string_view("?") : std::string_view(&c, 1));
  }
  return *this << "\"";
}

void ReportOutput::Flush() {
  if (descriptor_ < 0) {
    WriteToStderr({buffer_, used_});
  } else {
    static_cast<void>(WriteAll(descriptor_, buffer_, used_));
  }
  used_ = 0;
}

void WriteReportLine(const MisuseReport& report, bool fatal, ReportOutput* output) {
  MisuseLine line;
  DescribeMisuse(report.misuse, &line);
  *output << (fatal ? "tarn: fatal: " : "tarn: ") << line.view() << "\n";
}

void WriteTextReport(const MisuseReport& report, ReportOutput* output) {
  const Misuse& misuse = report.misuse;
  ProgramPath program;
  if (misuse.start != nullptr) {
    *output << "  object: ";
    output->Hex(AddressOf(misuse.start)) << ", " << misuse.object_bytes << " bytes";
    if (report.requested_bytes != 0 && report.requested_bytes != misuse.object_bytes) {
      *output << " (" << report.requested_bytes << " requested)";
    }
    if (report.state != MisuseReport::ObjectState::kUnknown) *output << ", " << StateWord(report.state);
    if (report.guard != nullptr) *output << ", " << report.guard;
    const Place place = PlaceOf(misuse);
    *output << "\n  address: ";
    if (place.side == Place::kInside) *output << "byte " << place.bytes << " of the object\n";
    if (place.side == Place::kBehind) *output << place.bytes << " bytes past its end\n";
    if (place.side == Place::kInFront) *output << place.bytes << " bytes before its start\n";
  }
  WriteStack(IsAccess(misuse.kind) ? "This access" : "This call", report.here, &program, output);
  WriteStack("The free", report.free, &program, output);
  WriteStack("The allocation", report.allocation, &program, output);
  if (const char* const advice = Advice(misuse.kind)) *output << "  What to do: " << advice << ".\n";
  if (report.here.count != 0) *output << "  `tarn symbolize` adds functions and lines to this report.\n";
}

void WriteJsonReport(const MisuseReport& report, bool fatal, ReportOutput* output) {
  const Misuse& misuse = report.misuse;
  ProgramPath program;
  MisuseLine line;
  DescribeMisuse(misuse, &line);
  *output << "{\"schema\":\"tarn-misuse/1\",\"kind\":\"" << MisuseWord(misuse.kind) << "\",\"message\":";
  output->Quoted(line.view()) << ",\"fatal\":" << (fatal ? "true" : "false") << ",\"pid\":" << ProcessId()
                              << ",\"tid\":" << std::uint64_t{KernelThreadId()};
  *output << ",\"call\":";
  output->Quoted(misuse.call) << ",\"address\":\"";
  output->Hex(AddressOf(misuse.address)) << "\"";
  if (misuse.start != nullptr) {
    *output << ",\"object\":{\"address\":\"";
    output->Hex(AddressOf(misuse.start)) << "\",\"bytes\":" << misuse.object_bytes;
    if (report.requested_bytes != 0) *output << ",\"requested_bytes\":" << report.requested_bytes;
    if (report.state != MisuseReport::ObjectState::kUnknown)
      *output << ",\"state\":\"" << StateWord(report.state) << "\"";
    const Place place = PlaceOf(misuse);
    *output << ",\"place\":\""
            << (place.side == Place::kInside   ? "inside"
                : place.side == Place::kBehind ? "behind"
                                               : "in front")
            << "\",\"distance\":" << place.bytes << "}";
  }
  if (misuse.given_bytes != 0) *output << ",\"given_bytes\":" << misuse.given_bytes;
  WriteStackJson("here", report.here, &program, output);
  if (report.free.count != 0) WriteStackJson("free", report.free, &program, output);
  if (report.allocation.count != 0) WriteStackJson("allocation", report.allocation, &program, output);
  *output << "}\n";
}

void WriteLiveText(const LiveReport& report, ReportOutput* output) {
  ProgramPath program;
  *output << "tarn: " << report.bytes << " bytes in " << report.objects << " objects are allocated at the end, from "
          << report.places << " stacks\n";
  for (std::size_t i = 0; i < report.shown; ++i) {
    const LiveReport::Place& place = report.largest[i];
    *output << "  " << place.bytes << " bytes in " << place.objects << " objects"
            << (place.allocation.count != 0 ? ", allocated at:\n" : ", whose stack was not kept\n");
    WriteSites(place.allocation, &program, output);
  }
}

void WriteLiveJson(const LiveReport& report, ReportOutput* output) {
  ProgramPath program;
  *output << "{\"schema\":\"tarn-misuse/1\",\"kind\":\"live-at-end\",\"pid\":" << ProcessId()
          << ",\"bytes\":" << report.bytes << ",\"objects\":" << report.objects << ",\"stacks\":" << report.places
          << ",\"largest\":[";
  for (std::size_t i = 0; i < report.shown; ++i) {
    const LiveReport::Place& place = report.largest[i];
    *output << (i == 0 ? "{" : ",{") << "\"bytes\":" << place.bytes << ",\"objects\":" << place.objects;
    WriteStackJson("allocation", place.allocation, &program, output);
    *output << "}";
  }
  *output << "]}\n";
}

const char* MisuseWord(Misuse::Kind kind) {
  switch (kind) {
    case Misuse::kNotAllocated:
      return "not-allocated";
    case Misuse::kInteriorPointer:
      return "interior-pointer";
    case Misuse::kAlreadyFree:
    case Misuse::kSpanAlreadyFree:
      return "double-free";
    case Misuse::kWrongSize:
      return "wrong-size";
    case Misuse::kUseAfterFree:
    case Misuse::kFreedOverwritten:
      return "use-after-free";
    case Misuse::kWrongFamily:
      return "mismatch";
    case Misuse::kPastEnd:
    case Misuse::kEndOverwritten:
      return "overflow";
    case Misuse::kBeforeStart:
    case Misuse::kStartOverwritten:
      return "underflow";
    default:
      return "wrong-pointer";
  }
}

}  // namespace tarn
