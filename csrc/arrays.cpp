// The CPU kernels on NumPy arrays: serial, with the GIL released, and without torch.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "cpu/isa.h"
#include "cpu/modality_scores.h"

namespace py = pybind11;

namespace {

std::string shape_text(const py::array& array) { return py::str(array.attr("shape")); }
std::string dtype_text(const py::array& array) { return py::str(array.dtype()); }

void check(bool holds, const std::string& rule, const std::string& got) {
  if (!holds) throw py::value_error("modality_scores: " + rule + " (got " + got + ")");
}

bool is_native(const py::array& array) { return array.dtype().attr("isnative").cast<bool>(); }

spcl::FloatType float_type(const py::array& array) {
  const char kind = array.dtype().kind();
  const auto size = array.itemsize();
  if (is_native(array) && kind == 'f' && size == 2) return spcl::FloatType::kFloat16;
  if (is_native(array) && kind == 'f' && size == 4) return spcl::FloatType::kFloat32;
  if (is_native(array) && kind == 'f' && size == 8) return spcl::FloatType::kFloat64;
  throw py::type_error("modality_scores: logits must be float16, float32 or float64 in native byte order (got " +
                       dtype_text(array) + ")");
}

spcl::IntegerType integer_type(const py::array& array) {
  using enum spcl::IntegerType;
  const char kind = array.dtype().kind();
  if (is_native(array) && (kind == 'i' || kind == 'u')) {
    const bool is_signed = kind == 'i';
    switch (array.itemsize()) {
      case 1:
        return is_signed ? kInt8 : kUInt8;
      case 2:
        return is_signed ? kInt16 : kUInt16;
      case 4:
        return is_signed ? kInt32 : kUInt32;
      case 8:
        return is_signed ? kInt64 : kUInt64;
      default:
        break;
    }
  }
  throw py::type_error("modality_scores: labels must be integers in native byte order (got " + dtype_text(array) + ")");
}

const char* bytes_of(const py::array& array) { return static_cast<const char*>(array.data()); }

/// Scores into a new array [4, M, T]: loss, confidence, entropy, margin.
py::array modality_scores(const std::vector<py::array>& logits, const py::array& labels,
                          const std::optional<py::array>& present, int64_t ignore_index) {
  check(!logits.empty(), "logits must be one array [M, T, C] or M arrays [T, C]", "no array");
  const py::array& first = logits.front();
  const bool stacked = logits.size() == 1 && first.ndim() == 3;
  const py::ssize_t leading = stacked ? 1 : 0;
  check(first.ndim() == leading + 2, "logits must be one array [M, T, C] or M arrays [T, C]", shape_text(first));
  const spcl::FloatType logits_type = float_type(first);
  const py::ssize_t modalities = stacked ? first.shape(0) : static_cast<py::ssize_t>(logits.size());
  const py::ssize_t utterances = first.shape(leading);
  const py::ssize_t num_classes = first.shape(leading + 1);
  check(num_classes <= spcl::ModalityScoresRows::max_classes, "logits must have fewer than 2^31 classes",
        shape_text(first));
  check(num_classes > 0 || modalities == 0 || utterances == 0, "logits must have at least one class",
        shape_text(first));
  for (const py::array& array : logits) {
    check(array.dtype().equal(first.dtype()), "logits must have one dtype",
          dtype_text(array) + " beside " + dtype_text(first));
    check(py::object(array.attr("shape")).equal(first.attr("shape")), "logits must have one shape",
          shape_text(array) + " beside " + shape_text(first));
  }
  const spcl::IntegerType labels_type = integer_type(labels);
  check(labels.ndim() == 1 && labels.shape(0) == utterances, "labels must be [T]",
        shape_text(labels) + " for T = " + std::to_string(utterances));
  if (present) {
    if (present->dtype().kind() != 'b') {
      throw py::type_error("modality_scores: present must be bool (got " + dtype_text(*present) + ")");
    }
    check(present->ndim() == 2 && present->shape(0) == modalities && present->shape(1) == utterances,
          "present must be [M, T]",
          shape_text(*present) + " for M = " + std::to_string(modalities) + ", T = " + std::to_string(utterances));
  }

  const bool is_double = logits_type == spcl::FloatType::kFloat64;
  const std::vector<py::ssize_t> shape{4, modalities, utterances};
  py::array slab = is_double ? py::array(py::array_t<double>(shape)) : py::array(py::array_t<float>(shape));
  const py::ssize_t row_bytes = utterances * (is_double ? 8 : 4);
  char* out = static_cast<char*>(slab.mutable_data());

  std::vector<spcl::ModalityScoresRows> sources;
  for (const py::array& array : logits) {
    spcl::ModalityScoresRows rows{};
    rows.logits = {bytes_of(array), logits_type, array.strides(leading), array.strides(leading + 1)};
    rows.num_classes = num_classes;
    rows.labels = bytes_of(labels);
    rows.labels_type = labels_type;
    rows.labels_stride = labels.strides(0);
    rows.ignore_index = ignore_index;
    rows.present = present ? bytes_of(*present) : nullptr;
    rows.present_stride = present ? present->strides(1) : 0;
    sources.push_back(rows);
  }
  const py::ssize_t logits_stride = stacked ? first.strides(0) : 0;
  const py::ssize_t present_stride = present ? present->strides(0) : 0;

  spcl::isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  const py::gil_scoped_release release;
  for (py::ssize_t m = 0; utterances > 0 && m < modalities; ++m) {
    spcl::ModalityScoresRows rows = sources[stacked ? 0 : static_cast<size_t>(m)];
    rows.logits.data += m * logits_stride;
    if (rows.present != nullptr) rows.present += m * present_stride;
    const auto score = [&](py::ssize_t k) { return out + (k * modalities + m) * row_bytes; };
    rows.loss = score(0);
    rows.confidence = score(1);
    rows.entropy = score(2);
    rows.margin = score(3);
    spcl::modality_scores(rows, 0, utterances);
  }
  return slab;
}

}  // namespace

PYBIND11_MODULE(_arrays, m) {
  m.doc() = "The CPU kernels on NumPy arrays; spcl_fast.arrays is the public face.";
  m.def("instruction_set", [] { return spcl::isa_name(spcl::isa()); });
  m.def("modality_scores", &modality_scores, py::arg("logits"), py::arg("labels"), py::arg("present").none(true),
        py::arg("ignore_index"));
}
