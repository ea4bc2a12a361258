// The CPU kernels on NumPy arrays: serial, with the GIL released, and without torch.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arrays/ops.h"
#include "cpu/isa.h"
#include "cpu/order_statistic.h"

namespace py = pybind11;

PYBIND11_MODULE(_arrays, m) {
  m.doc() = "The CPU kernels on NumPy arrays; spcl_fast.arrays is the public face.";
  m.def("instruction_set", [] { return spcl::isa_name(spcl::isa()); });
  m.def("crc32c", &spcl::arrays::crc32c, py::arg("bytes"), py::arg("before") = 0);
  m.def("difficulty_histogram", &spcl::arrays::difficulty_histogram, py::arg("difficulty"), py::arg("prefix"),
        py::arg("level"));
  m.def("difficulty_quantile", &spcl::arrays::difficulty_quantile, py::arg("difficulty"), py::arg("pace"));
  m.def("modality_scores", &spcl::arrays::modality_scores, py::arg("logits"), py::arg("labels"),
        py::arg("present").none(true), py::arg("ignore_index"));
  m.def("rank_at", &spcl::rank_at, py::arg("pace"), py::arg("n"));
  m.def("select_easiest", &spcl::arrays::select_easiest, py::arg("difficulty"), py::arg("pace"));
  m.def("emotion_transitions", &spcl::arrays::emotion_transitions, py::arg("labels"), py::arg("speakers"),
        py::arg("offsets"), py::arg("num_classes"), py::arg("similarity").none(true), py::arg("fitted").none(true),
        py::arg("ignore_index"), py::arg("breaks"), py::arg("by_speaker"), py::arg("weighs_both"));
  m.def("modality_spread", &spcl::arrays::modality_spread, py::arg("confidence"), py::arg("offsets"),
        py::arg("present").none(true), py::arg("of_means"));
  m.def("multiview_hardness", &spcl::arrays::multiview_hardness, py::arg("reconstruction"), py::arg("target"),
        py::arg("hidden"), py::arg("crossed"), py::arg("present"), py::arg("valid").none(true),
        py::arg("scaling").none(true), py::arg("mi_sign"), py::arg("slope"), py::arg("direct_weight"),
        py::arg("information_weight"));
  m.def("self_paced_weights", &spcl::arrays::self_paced_weights, py::arg("difficulty"), py::arg("threshold"),
        py::arg("scheme"), py::arg("parameter"), py::arg("groups").none(true));
  m.def("self_paced_step", &spcl::arrays::self_paced_step, py::arg("logits"), py::arg("labels"), py::arg("offsets"),
        py::arg("threshold").none(true), py::arg("joint").none(true), py::arg("extra_difficulty").none(true),
        py::arg("class_weight").none(true), py::arg("present").none(true), py::arg("measure"), py::arg("scheme"),
        py::arg("scheme_parameter"), py::arg("groups_are_dialogues"), py::arg("divides_by_weight"), py::arg("of_means"),
        py::arg("label_smoothing"), py::arg("ignore_index"));
  m.def("super_loss", &spcl::arrays::super_loss, py::arg("loss"), py::arg("threshold"), py::arg("regularization"));
  m.def("window_coherence", &spcl::arrays::window_coherence, py::arg("embeddings"), py::arg("offsets"),
        py::arg("present").none(true), py::arg("window"), py::arg("of_predictions"));
  m.def("rescore", &spcl::arrays::rescore, py::arg("logits"), py::arg("labels"), py::arg("speakers").none(true),
        py::arg("offsets"), py::arg("embeddings"), py::arg("counts").none(true), py::arg("measure"),
        py::arg("of_means"), py::arg("window"), py::arg("incoherence"), py::arg("transition"), py::arg("surprisal"),
        py::arg("wants_modalities"), py::arg("wants_coherence"), py::arg("wants_transitions"), py::arg("out"),
        py::arg("of_dialogues"), py::arg("scored"));
}
