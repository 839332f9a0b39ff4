// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/verbs.h"

#include <algorithm>

namespace tarn::tool {

extern const Verb kRunVerb;
extern const Verb kCheckVerb;
extern const Verb kStatVerb;
extern const Verb kTopVerb;
extern const Verb kHeapVerb;
extern const Verb kServeVerb;
extern const Verb kSymbolizeVerb;
extern const Verb kDiffVerb;
extern const Verb kOptionsVerb;
extern const Verb kCompareVerb;
extern const Verb kSizeClassesVerb;
extern const Verb kReleaseVerb;
extern const Verb kLimitVerb;
extern const Verb kReportVerb;
extern const Verb kMachineVerb;
extern const Verb kCompletionVerb;
extern const Verb kManVerb;

const std::vector<const Verb*>& Verbs() {
  static const std::vector<const Verb*> verbs = {
      &kRunVerb,         &kCompareVerb, &kCheckVerb,   &kStatVerb,       &kTopVerb,   &kHeapVerb,
      &kDiffVerb,        &kReleaseVerb, &kLimitVerb,   &kSymbolizeVerb,  &kServeVerb, &kOptionsVerb,
      &kSizeClassesVerb, &kReportVerb,  &kMachineVerb, &kCompletionVerb, &kManVerb,
  };
  return verbs;
}

const Verb* FindVerb(std::string_view name) {
  const auto found = std::ranges::find(Verbs(), name, &Verb::name);
  return found == Verbs().end() ? nullptr : *found;
}

}  // namespace tarn::tool
