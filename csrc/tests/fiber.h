#pragma once

// Threads of control that change places when they say so. On x86-64 a change is a dozen instructions; elsewhere it is
// the C library's, which asks the kernel.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace cuda_on_cpu {

using FiberBody = void (*)(void*);

struct Fiber {
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kStackBytes = 256 * 1024;
#else
  static constexpr size_t kStackBytes = 64 * 1024;
#endif
  char* stack = nullptr;  // none: the stack of whoever called first
  FiberBody body = nullptr;
  void* argument = nullptr;
  Fiber* entered_from = nullptr;
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif

  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber(Fiber&& other) noexcept : stack(other.stack) { other.stack = nullptr; }
  Fiber& operator=(Fiber&&) = delete;
  ~Fiber() { std::free(stack); }
};

#if defined(__x86_64__)

extern "C" void spcl_switch_stacks(void** from, void* to);
// Keeps what a call has to keep on the stack that is left, and takes it from the one that is entered.
asm(R"(
.text
.weak spcl_switch_stacks
.hidden spcl_switch_stacks
.type spcl_switch_stacks, @function
spcl_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size spcl_switch_stacks, . - spcl_switch_stacks
)");

#endif

/// The fiber that is being entered.
inline Fiber*& entering() {
  static Fiber* fiber = nullptr;
  return fiber;
}

#if defined(__SANITIZE_ADDRESS__)
inline void begin_switch(Fiber& from, const Fiber& to, bool ends) {
  __sanitizer_start_switch_fiber(ends ? nullptr : &from.fake_stack, to.bottom, to.size);
}
#endif

/// Leaves `from`, which is running, for `to`; returns when somebody comes back to `from`.
inline void switch_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  begin_switch(from, to, false);
#endif
  to.entered_from = &from;
  entering() = &to;
#if defined(__x86_64__)
  spcl_switch_stacks(&from.stack_pointer, to.stack_pointer);
#else
  swapcontext(&from.context, &to.context);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

/// Leaves `from` for good.
[[noreturn]] inline void finish_fiber(Fiber& from, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  begin_switch(from, to, true);
#endif
#if defined(__x86_64__)
  spcl_switch_stacks(&from.stack_pointer, to.stack_pointer);
#else
  setcontext(&to.context);
#endif
  std::abort();
}

/// The first frame of every fiber.
[[noreturn]] inline void first_frame() {
  Fiber& self = *entering();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &self.entered_from->bottom, &self.entered_from->size);
#endif
  self.body(self.argument);
  std::abort();
}

/// Readies a fiber to call `body(argument)`, which has to end in finish_fiber().
inline void start_fiber(Fiber& fiber, FiberBody body, void* argument) {
  if (fiber.stack == nullptr) {
    fiber.stack = static_cast<char*>(std::aligned_alloc(64, Fiber::kStackBytes));
    if (fiber.stack == nullptr) throw std::bad_alloc();
  }
  fiber.body = body;
  fiber.argument = argument;
#if defined(__SANITIZE_ADDRESS__)
  fiber.bottom = fiber.stack;
  fiber.size = Fiber::kStackBytes;
#endif
#if defined(__x86_64__)
  // Six registers to take back, the address to return to, and nothing above it: aligned as after a call.
  auto** top = reinterpret_cast<void**>(fiber.stack + Fiber::kStackBytes) - 1;
  *--top = reinterpret_cast<void*>(&first_frame);
  for (int k = 0; k < 6; ++k) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = Fiber::kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, &first_frame, 0);
#endif
}

}  // namespace cuda_on_cpu
