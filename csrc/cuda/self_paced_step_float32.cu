#include "cuda/step_launch_type.h"

namespace spcl {

void launch_step_float32(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream) {
  on_device::launch_step_of<float>(call, plan, stream);
}

}  // namespace spcl
