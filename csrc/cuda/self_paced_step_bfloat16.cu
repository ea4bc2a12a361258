#include "cuda/step_launch_type.h"

namespace spcl {

void launch_step_bfloat16(const StepCall& call, const on_device::StepPlan& plan, cudaStream_t stream) {
  on_device::launch_step_of<BFloat16>(call, plan, stream);
}

}  // namespace spcl
