// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/report/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include <fmt/format.h>

#include "tools/tarn/report/html.h"

namespace tarn::tool::report {
namespace {

constexpr double kWidth = 400;
constexpr double kHeight = 270;
constexpr double kLeft = 70;
constexpr double kRight = 12;
constexpr double kTop = 10;
constexpr double kBottom = 42;
constexpr double kMarkSize = 4;
constexpr double kEmphasisSize = 7;
constexpr int kStyles = 8;

// Maps the values of an axis to the drawing.
class Scale {
 public:
  Scale(const Axis& axis, std::vector<double> values, double start, double end)
      : axis_(axis), start_(start), end_(end), logarithmic_(axis.kind != AxisKind::kLinear) {
    low_ = std::numeric_limits<double>::infinity();
    high_ = -low_;
    for (const double value : values) {
      if (!Drawable(value)) continue;
      low_ = std::min(low_, value);
      high_ = std::max(high_, value);
    }
    if (low_ > high_) low_ = high_ = 1;
    if (axis.from_zero) low_ = std::min(low_, 0.0);
    if (axis.kind == AxisKind::kRatio) {
      low_ = std::min(low_, 0.9);
      high_ = std::max(high_, 1.1);
    }
    Widen();
  }

  bool Drawable(double value) const { return std::isfinite(value) && (!logarithmic_ || value > 0); }

  double operator()(double value) const {
    const double part =
        logarithmic_ ? std::log(value / low_) / std::log(high_ / low_) : (value - low_) / (high_ - low_);
    return start_ + (end_ - start_) * part;
  }

  std::vector<double> Ticks() const {
    const std::vector<double> all = logarithmic_ ? LogarithmicTicks() : LinearTicks();
    std::vector<double> visible;
    const double slack = (high_ - low_) * 1e-9;
    for (const double tick : all) {
      if (tick >= low_ - slack && tick <= high_ + slack) visible.push_back(tick);
    }
    return visible;
  }

  std::string Label(double tick) const {
    if (axis_.kind == AxisKind::kRatio) return fmt::format("{:g}\xC3\x97", tick);
    std::string label = Figure(axis_.measure, tick);
    // Ticks are round figures: 200 ms and not 200.00 ms.
    if (const std::size_t dot = label.find('.'); dot != std::string::npos) {
      std::size_t end = label.find_first_not_of("0123456789", dot + 1);
      if (end == std::string::npos) end = label.size();
      std::size_t keep = end;
      while (keep > dot + 1 && label[keep - 1] == '0') --keep;
      if (keep == dot + 1) --keep;
      label.erase(keep, end - keep);
    }
    return label;
  }

 private:
  void Widen() {
    if (logarithmic_) {
      if (high_ / low_ < 1.2) {
        low_ /= 1.1;
        high_ *= 1.1;
      }
      const double margin = std::pow(high_ / low_, 0.05);
      low_ /= margin;
      high_ *= margin;
      return;
    }
    if (high_ <= low_) high_ = low_ + std::max(std::fabs(low_) * 0.1, 1e-9);
    const double margin = (high_ - low_) * 0.06;
    high_ += margin;
    if (!axis_.from_zero || low_ < 0) low_ -= margin;
  }

  std::vector<double> LinearTicks() const {
    const bool binary = IsBytes(axis_.measure);
    const double rough = (high_ - low_) / 5;
    double step = 0;
    if (binary) {
      step = std::exp2(std::ceil(std::log2(rough)));
    } else {
      const double power = std::pow(10, std::floor(std::log10(rough)));
      const double lead = rough / power;
      step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    }
    std::vector<double> ticks;
    const double first = std::ceil(low_ / step) * step;
    for (int i = 0; i < 20 && first + i * step <= high_; ++i) {
      const double tick = first + i * step;
      ticks.push_back(std::fabs(tick) < step * 1e-6 ? 0 : tick);
    }
    return ticks;
  }

  std::vector<double> LogarithmicTicks() const {
    // From the finest set on, the first that gives few enough ticks; 1 is in all of them.
    static const std::array<std::vector<double>, 4> kMantissas = {
        std::vector<double>{1, 1.1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9},
        std::vector<double>{1, 1.5, 2, 3, 5, 7}, std::vector<double>{1, 2, 5}, std::vector<double>{1}};
    std::vector<double> ticks;
    for (const auto& mantissas : kMantissas) {
      ticks.clear();
      const int first = static_cast<int>(std::floor(std::log10(low_)));
      const int last = static_cast<int>(std::ceil(std::log10(high_)));
      for (int power = first; power <= last; ++power) {
        for (const double mantissa : mantissas) {
          const double tick = mantissa * std::pow(10, power);
          if (tick >= low_ && tick <= high_) ticks.push_back(tick);
        }
      }
      if (ticks.size() <= 7) return ticks;
    }
    // Many powers of ten: every second or third one.
    const std::size_t stride = (ticks.size() + 6) / 7;
    std::vector<double> fewer;
    for (std::size_t i = 0; i < ticks.size(); i += stride) fewer.push_back(ticks[i]);
    return fewer;
  }

  const Axis& axis_;
  double start_;
  double end_;
  bool logarithmic_;
  double low_;
  double high_;
};

// The path of a mark, centred at (x, y).
std::string MarkPath(int style, double x, double y, double r) {
  const auto polygon = [&](std::initializer_list<std::pair<double, double>> corners) {
    std::string path;
    for (const auto& [dx, dy] : corners) {
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x + r * dx, y + r * dy);
    }
    return path + "Z";
  };
  switch (style) {
    case 0:
      return fmt::format("M{:.1f} {:.1f}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z", x - r, y, fmt::arg("r", r),
                         fmt::arg("d", 2 * r));
    case 1:  // ×
      return polygon({{-1, -.6},
                      {-.6, -1},
                      {0, -.4},
                      {.6, -1},
                      {1, -.6},
                      {.4, 0},
                      {1, .6},
                      {.6, 1},
                      {0, .4},
                      {-.6, 1},
                      {-1, .6},
                      {-.4, 0}});
    case 2:
      return polygon({{0, -1.1}, {1.05, .8}, {-1.05, .8}});
    case 3:
      return polygon({{-.9, -.9}, {.9, -.9}, {.9, .9}, {-.9, .9}});
    case 4:
      return polygon({{0, -1.2}, {1, 0}, {0, 1.2}, {-1, 0}});
    case 5:  // +
      return polygon({{-.3, -1.1},
                      {.3, -1.1},
                      {.3, -.3},
                      {1.1, -.3},
                      {1.1, .3},
                      {.3, .3},
                      {.3, 1.1},
                      {-.3, 1.1},
                      {-.3, .3},
                      {-1.1, .3},
                      {-1.1, -.3},
                      {-.3, -.3}});
    case 6:
      return polygon({{0, 1.1}, {1.05, -.8}, {-1.05, -.8}});
    default:  // a bar
      return polygon({{-1.2, -.45}, {1.2, -.45}, {1.2, .45}, {-1.2, .45}});
  }
}

std::string RenderMark(int style, const Mark& mark, double x, double y) {
  const double size = mark.emphasis ? kEmphasisSize : kMarkSize;
  return fmt::format("<path class=\"m s{}{}{}\" d=\"{}\"><title>{}</title></path>", style, mark.hollow ? " hollow" : "",
                     mark.emphasis ? " mean" : "", MarkPath(style, x, y, size), Escape(mark.title));
}

}  // namespace

int SeriesStyle(const std::string& allocator, std::size_t place) {
  constexpr std::array<const char*, 5> kKnown = {"tarn", "glibc", "mimalloc", "jemalloc", "tcmalloc"};
  for (std::size_t i = 0; i < kKnown.size(); ++i) {
    if (allocator == kKnown[i]) return static_cast<int>(i);
  }
  constexpr std::size_t kOthers = kStyles - kKnown.size();
  return static_cast<int>(kKnown.size() + place % kOthers);
}

std::string RenderChart(const Chart& chart) {
  std::vector<double> xs = chart.x_ticks;
  std::vector<double> ys;
  for (const Series& series : chart.series) {
    for (const Mark& mark : series.marks) {
      xs.push_back(mark.x);
      ys.push_back(mark.y);
    }
  }
  if (ys.empty()) return "";
  const Scale x(chart.x, xs, kLeft, kWidth - kRight);
  const Scale y(chart.y, ys, kHeight - kBottom, kTop);

  std::string svg = fmt::format("<svg class=\"chart\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">\n",
                                kWidth, kHeight, Escape(chart.title));
  const auto line = [&](const char* kind, double x1, double y1, double x2, double y2) {
    svg += fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>", kind, x1, y1, x2, y2);
  };
  for (const double tick : y.Ticks()) {
    const bool one = chart.y.kind == AxisKind::kRatio && tick == 1;
    line(one ? "one" : "grid", kLeft, y(tick), kWidth - kRight, y(tick));
    svg += fmt::format("<text class=\"tick end\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", kLeft - 6, y(tick) + 4,
                       Escape(y.Label(tick)));
  }
  const std::vector<double> x_ticks = chart.x_ticks.empty() ? x.Ticks() : chart.x_ticks;
  double last_end = -1;
  for (std::size_t i = 0; i < x_ticks.size(); ++i) {
    const double tick = x_ticks[i];
    const std::string label = i < chart.x_names.size() ? chart.x_names[i] : x.Label(tick);
    const bool one = chart.x.kind == AxisKind::kRatio && tick == 1;
    line(one ? "one" : "grid", x(tick), kTop, x(tick), kHeight - kBottom);
    // A label that would run into the one before it is left out; about seven units per character.
    const double half = 3.5 * static_cast<double>(label.size());
    if (x(tick) - half < last_end) continue;
    last_end = x(tick) + half + 4;
    svg += fmt::format("<text class=\"tick middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", x(tick),
                       kHeight - kBottom + 15, Escape(label));
  }
  svg += fmt::format("<text class=\"axis middle\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", (kLeft + kWidth - kRight) / 2,
                     kHeight - 6, Escape(chart.x.title));
  svg += fmt::format("<text class=\"axis middle\" transform=\"translate(12 {:.1f}) rotate(-90)\">{}</text>\n",
                     (kTop + kHeight - kBottom) / 2, Escape(chart.y.title));

  for (const Series& series : chart.series) {
    if (chart.lines || chart.both) {
      std::string path;
      for (const Mark& mark : series.marks) {
        if (!x.Drawable(mark.x) || !y.Drawable(mark.y)) continue;
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", x(mark.x), y(mark.y));
      }
      if (!path.empty()) {
        svg += fmt::format("<path class=\"line s{}\" d=\"{}\"><title>{}</title></path>", series.style, path,
                           Escape(series.name));
      }
    }
    if (!chart.lines) {
      for (const Mark& mark : series.marks) {
        if (x.Drawable(mark.x) && y.Drawable(mark.y)) svg += RenderMark(series.style, mark, x(mark.x), y(mark.y));
      }
    } else if (!series.marks.empty()) {
      // One mark at the end tells lines apart where their dashes do not.
      const Mark& last = series.marks.back();
      if (x.Drawable(last.x) && y.Drawable(last.y)) svg += RenderMark(series.style, last, x(last.x), y(last.y));
    }
    svg += "\n";
  }
  return svg + "</svg>";
}

std::string RenderKey(int style, bool hollow) {
  return fmt::format(
      "<svg class=\"key\" viewBox=\"0 0 12 12\" aria-hidden=\"true\"><path class=\"m s{}{}\" d=\"{}\"/></svg>", style,
      hollow ? " hollow" : "", MarkPath(style, 6, 6, kMarkSize));
}

std::string RenderRatioStrip(const std::string& title, const std::vector<RatioMark>& marks, double low, double high) {
  constexpr double kStripWidth = 180;
  constexpr double kLane = 9;
  constexpr double kEdge = 6;
  const double height = kLane * static_cast<double>(marks.size()) + 2;
  const auto x = [&](double ratio) {
    const double part = std::log(std::clamp(ratio, low, high) / low) / std::log(high / low);
    return kEdge + (kStripWidth - 2 * kEdge) * part;
  };
  std::string svg = fmt::format("<svg class=\"strip\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" aria-label=\"{}\">",
                                kStripWidth, height, Escape(title));
  svg += fmt::format("<path class=\"one\" d=\"M{:.1f} 0V{:.1f}\"/>", x(1), height);
  double y = 1 + kLane / 2;
  for (const RatioMark& mark : marks) {
    svg += fmt::format("<path class=\"interval s{}\" d=\"M{:.1f} {:.1f}H{:.1f}\"/>", mark.style, x(mark.low), y,
                       x(mark.high));
    const Mark point{0, 0, fmt::format("{}: {}\xC3\x97", mark.name, Ratio(mark.ratio)), false, false};
    svg += RenderMark(mark.style, point, x(mark.ratio), y);
    y += kLane;
  }
  return svg + "</svg>";
}

}  // namespace tarn::tool::report
