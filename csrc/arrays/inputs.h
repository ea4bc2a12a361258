#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "cpu/dtypes.h"
#include "cpu/labels.h"
#include "cpu/self_paced_weights.h"

namespace spcl::arrays {

namespace py = pybind11;

/// Throws "op: rule (got ...)", a ValueError in Python, unless `holds`.
void check(const char* op, bool holds, const std::string& rule, const std::string& got);

std::string shape_text(const py::array& array);

FloatType float_type(const char* op, const char* name, const py::array& array);
IntegerType integer_type(const char* op, const char* name, const py::array& array);

inline const char* bytes_of(const py::array& array) { return static_cast<const char*>(array.data()); }

/// An uninitialised array: float64 for float64 inputs and float32 for all others.
py::array new_array(FloatType inputs, const std::vector<py::ssize_t>& shape);

/// The logits or embeddings of a call, every array checked. The arrays have to outlive it.
struct RowsInput {
  int64_t modalities, utterances, columns;
  FloatType type;
  int64_t modality_stride;  // bytes, of a stacked array
  std::vector<FloatRows> sources;

  FloatRows modality(int64_t m) const {
    FloatRows rows = sources[sources.size() == 1 ? 0 : static_cast<size_t>(m)];
    rows.data += m * modality_stride;
    return rows;
  }
};

/// One array [M, T, columns], or M arrays [T, columns] of one shape and dtype. `letter` names the columns.
RowsInput checked_rows(const char* op, const char* name, char letter, const std::vector<py::array>& arrays);

/// The same for logits, which have at least one class and fewer than 2^31.
RowsInput checked_logits(const char* op, const std::vector<py::array>& logits);

/// The spread needs two modalities.
void check_modalities(const char* op, int64_t modalities);

/// An array of integers [size]: where it starts, its type and stride in bytes.
struct IntegersInput {
  const char* data;
  IntegerType type;
  int64_t stride;

  LabelRows rows(int64_t ignore_index, int64_t num_classes) const {
    return {data, type, stride, ignore_index, num_classes};
  }
};
IntegersInput checked_integers(const char* op, const char* name, const py::array& array, int64_t size);

/// A copy of a matrix [size, size] of integers that are at least 0.
std::vector<int64_t> checked_counts(const char* op, const char* name, const py::array& array, int64_t size);

/// A bool array [M, T]; `data` is nullptr where none is given.
struct PresentInput {
  const char* data;
  int64_t modality_stride, stride;
};
PresentInput checked_present(const char* op, const std::optional<py::array>& present, int64_t modalities,
                             int64_t utterances);

/// The same for a bool array [size].
PresentInput checked_flags(const char* op, const char* name, const std::optional<py::array>& flags, int64_t size);

/// A floating point array of one shape: [size] or [rows, columns].
FloatRows checked_floats(const char* op, const char* name, const py::array& array,
                         std::initializer_list<int64_t> shape);

/// Difficulties [T] and a pace in (0, 1].
FloatRows checked_ranking(const char* op, const py::array& difficulty, double pace);

/// Offsets [D + 1] that run from 0 to `utterances` without falling.
std::vector<int64_t> checked_offsets(const char* op, const py::array& offsets, int64_t utterances);

/// A scheme by its number; its parameter and, where there is one, the threshold lie in its domain.
Weighting checked_weighting(const char* op, int64_t scheme, double parameter, std::optional<double> threshold);

}  // namespace spcl::arrays
