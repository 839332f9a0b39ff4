// SPDX-License-Identifier: Apache-2.0
//
// Charts as SVG, drawn here and not by a script in the page.
//
// Why not one of Debian's chart libraries: they need a script of 200 KB and more in every report, and draw nothing when
// it does not run. Most draw on a canvas, which neither prints sharply nor follows the page's colours. The four kinds
// of charts that the report needs are a few hundred lines; their colours and fonts come from the page's style sheet, so
// light, dark and print are one drawing.
//
// All charts have a drawing width of 400 units. They are shown at 340 to 560 pixels, so that text is readable on a
// phone. Every mark has a shape of its own besides its colour, and a <title> that says its figure.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tarn::tool::report {

enum class AxisKind { kLinear, kLog, kRatio };  // kRatio: logarithmic around a line at 1

struct Axis {
  std::string title;
  std::string measure;  // chooses how ticks are written, see Figure(); empty: a plain number
  AxisKind kind = AxisKind::kLinear;
  bool from_zero = false;
};

struct Mark {
  double x = 0;
  double y = 0;
  std::string title;      // the text of the tooltip
  bool hollow = false;    // the control
  bool emphasis = false;  // larger: a mean
};

struct Series {
  std::string name;
  int style = 0;  // which colour, shape and dash: see SeriesStyle
  std::vector<Mark> marks;
};

struct Chart {
  std::string title;  // for screen readers, too
  Axis x;
  Axis y;
  bool lines = false;  // join the marks of a series, and leave the marks out
  bool both = false;   // join the marks of a series, and draw them
  std::vector<Series> series;
  std::vector<double> x_ticks;  // in place of computed ones
  std::vector<std::string> x_names;
};

// Well-known allocators have the same style in every report; others share what is left, by their place in the list.
int SeriesStyle(const std::string& allocator, std::size_t place);

// The <svg> element; an empty string where there is nothing to draw.
std::string RenderChart(const Chart& chart);

// The mark alone, as a small <svg> for legends and tables.
std::string RenderKey(int style, bool hollow = false);

// A row of the table: all allocators' ratios on one logarithmic axis with a line at 1, each with its interval.
struct RatioMark {
  std::string name;
  int style = 0;
  double ratio = 1;
  double low = 1;
  double high = 1;
};
std::string RenderRatioStrip(const std::string& title, const std::vector<RatioMark>& marks, double low, double high);

}  // namespace tarn::tool::report
