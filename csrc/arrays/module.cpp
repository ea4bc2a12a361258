// The CPU kernels on NumPy arrays: serial, with the GIL released, and without torch.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arrays/ops.h"
#include "cpu/isa.h"

namespace py = pybind11;

PYBIND11_MODULE(_arrays, m) {
  m.doc() = "The CPU kernels on NumPy arrays; spcl_fast.arrays is the public face.";
  m.def("instruction_set", [] { return spcl::isa_name(spcl::isa()); });
  m.def("modality_scores", &spcl::arrays::modality_scores, py::arg("logits"), py::arg("labels"),
        py::arg("present").none(true), py::arg("ignore_index"));
  m.def("window_coherence", &spcl::arrays::window_coherence, py::arg("embeddings"), py::arg("offsets"),
        py::arg("present").none(true), py::arg("window"), py::arg("of_predictions"));
}
