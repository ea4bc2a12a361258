#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <optional>
#include <vector>

// The ops on arrays; what each computes is said in spcl_fast/arrays.

namespace spcl::arrays {

/// The four scores as an array [4, M, T]: loss, confidence, entropy, margin.
pybind11::array modality_scores(const std::vector<pybind11::array>& logits, const pybind11::array& labels,
                                const std::optional<pybind11::array>& present, int64_t ignore_index);

/// The coherence [T] of embeddings, or of the softmax of logits.
pybind11::array window_coherence(const std::vector<pybind11::array>& embeddings, const pybind11::array& offsets,
                                 const std::optional<pybind11::array>& present, int64_t window, bool of_predictions);

}  // namespace spcl::arrays
