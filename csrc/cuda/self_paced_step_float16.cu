#include "cuda/step_launch_type.h"

namespace spcl {

void launch_step_float16(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream) {
  on_device::launch_step_of<Float16>(call, plan, stream);
}

}  // namespace spcl
