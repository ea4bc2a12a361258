#include "cpu/crc32c.h"

#include <pybind11/pybind11.h>

#include "arrays/inputs.h"
#include "arrays/ops.h"
#include "cpu/isa.h"

namespace spcl::arrays {

uint32_t crc32c(const py::array& bytes, uint32_t before) {
  isa();  // a wrong SPCL_FAST_ISA is an error with the GIL held
  check("crc32c", bytes.itemsize() == 1 && (bytes.flags() & py::array::c_style) != 0, "must be contiguous bytes",
        shape_text(bytes));
  const void* data = bytes.data();
  const int64_t size = bytes.size();
  const py::gil_scoped_release release;
  return spcl::crc32c(data, size, before);
}

}  // namespace spcl::arrays
