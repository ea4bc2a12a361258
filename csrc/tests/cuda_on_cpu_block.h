#pragma once

// The blocks of tests/cuda_on_cpu.h: their fibers, barriers and shared memory.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/fiber.h"

namespace cuda_on_cpu {

class SharedSlot;

/// What a block has of shared memory, declared and added by a launch.
inline constexpr size_t kSharedBytes = 48 * 1024;

/// Where a thread of the block stands.
enum class State { kReady, kAtBlock, kAtWarp, kDone };

struct Copy {
  void* target;
  const void* source;
  size_t bytes;
};

struct Thread {
  Fiber fiber;
  State state = State::kDone;
  unsigned mask = 0;            // lanes this one waits for
  const char* where = "";       // of the barrier it waits at: the file,
  int line = 0;                 // and the line
  int generation = 0;           // of the warp's exchanges
  uint64_t posted[2] = {0, 0};  // what it gives in an exchange, by the parity of the generation
  int predicate = 0;
  std::vector<Copy> copies;  // asked for, and not waited for yet
};

/// The block that is running. There is one at a time.
class Block {
 public:
  unsigned index[2] = {0, 0};

  unsigned thread() const { return static_cast<unsigned>(current_); }
  int lane() const { return static_cast<int>(current_ % 32); }
  void* dynamic_shared() { return dynamic_.get(); }
  void add(SharedSlot* slot) { slots_.push_back(slot); }

  void sync_block(const char* file, int line) {
    if (is_skipped(file, line)) return;
    wait(State::kAtBlock, ~0u, file, line);
  }
  int sync_block_or(int predicate, const char* file, int line) {
    threads_[current_].predicate = predicate;
    sync_block(file, line);
    const int any = any_of_block_;
    return any;
  }
  void sync_warp(const char* file, int line) {
    if (is_skipped(file, line)) return;
    wait(State::kAtWarp, lanes_of_warp(), file, line);
  }

  /// A copy that happens when its thread waits for it: until then nobody can rely on it.
  void start_copy(void* target, const void* source, size_t bytes) {
    if ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source)) % bytes != 0) {
      fail("a copy between addresses that are not aligned to its size");
    }
    threads_[current_].copies.push_back({target, source, bytes});
  }
  void await_copies(const char* file, int line) {
    if (is_skipped(file, line)) return;
    for (const Copy& copy : threads_[current_].copies) std::memcpy(copy.target, copy.source, copy.bytes);
    threads_[current_].copies.clear();
  }

  /// The value of lane `source` of this warp; every lane of `mask` takes part.
  template <class T>
  T exchange(unsigned mask, T value, int source) {
    static_assert(sizeof(T) <= 8);
    if (!(mask >> source & 1)) source = lane();  // undefined on a GPU
    const int parity = post(mask, value);
    T result;
    std::memcpy(&result, &threads_[current_ / 32 * 32 + static_cast<size_t>(source)].posted[parity], sizeof(T));
    return result;
  }
  /// Calls `take` with the value of every lane of `mask`, in their order.
  template <class T, class Take>
  void exchange_all(unsigned mask, T value, const Take& take) {
    const int parity = post(mask, value);
    for (size_t l = 0; l < 32; ++l) {
      if (!(mask >> l & 1)) continue;
      T other;
      std::memcpy(&other, &threads_[current_ / 32 * 32 + l].posted[parity], sizeof(T));
      take(other);
    }
  }
  unsigned ballot(unsigned mask, bool predicate) {
    unsigned bits = 0, l = 0;
    exchange_all(mask, predicate, [&](bool other) {
      while (!(mask >> l & 1)) ++l;
      bits |= (other ? 1u : 0u) << l++;
    });
    return bits;
  }

  void run_grid(unsigned columns, unsigned rows, unsigned threads, size_t shared_bytes,
                const std::function<void()>& kernel);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };

  template <class T>
  int post(unsigned mask, T value) {
    if (!(mask >> lane() & 1)) fail("a lane that is not in its own mask");
    Thread& self = threads_[current_];
    const int parity = self.generation++ & 1;
    self.posted[parity] = 0;
    std::memcpy(&self.posted[parity], &value, sizeof(T));
    wait(State::kAtWarp, mask, "an exchange", 0);
    return parity;
  }

  unsigned lanes_of_warp() const {
    const size_t first = current_ / 32 * 32, left = count_ - first;
    return left >= 32 ? ~0u : (1u << left) - 1;
  }

  [[noreturn]] static void fail(const std::string& what) { throw std::runtime_error("cuda_on_cpu: " + what); }

  static bool is_skipped(const char* file, int line) {
    static const char* const wanted = std::getenv("SPCL_CUDA_ON_CPU_SKIP");
    if (wanted == nullptr) return false;
    const char* slash = std::strrchr(file, '/');
    return std::string(slash == nullptr ? file : slash + 1) + ":" + std::to_string(line) == wanted;
  }

  void wait(State state, unsigned mask, const char* where, int line) {
    Thread& self = threads_[current_];
    self.state = state;
    self.mask = mask;
    self.where = where;
    self.line = line;
    switch_fiber(self.fiber, main_);
    if (error_) throw std::runtime_error("cuda_on_cpu: unwinding");
  }

  static void enter(void* self);
  void run_block(const std::function<void()>& kernel);
  bool release_block();
  bool release_warp(size_t warp);

  std::vector<Thread> threads_;
  std::vector<SharedSlot*> slots_;
  std::unique_ptr<void, Free> dynamic_;
  Fiber main_;
  const std::function<void()>* kernel_ = nullptr;
  size_t current_ = 0, count_ = 0;
  int any_of_block_ = 0;
  std::exception_ptr error_;
};

inline Block& block() {
  static Block one;
  return one;
}

/// A `__shared__` variable: one for all threads, NaN (and -1) when a block starts.
class SharedSlot {
 public:
  SharedSlot(size_t bytes, size_t alignment)
      : bytes_((bytes + alignment - 1) / alignment * alignment),
        memory_(std::aligned_alloc(alignment < 16 ? 16 : alignment, (bytes_ + 15) / 16 * 16)) {
    block().add(this);
    poison();
  }
  void* memory() {
    is_used_ = true;
    return memory_;
  }
  void poison() {
    std::memset(memory_, 0xFF, bytes_);
    is_used_ = false;
  }
  /// Its bytes if this block has come across it.
  size_t used_bytes() const { return is_used_ ? bytes_ : 0; }

 private:
  size_t bytes_;
  void* memory_;
  bool is_used_ = false;
};

/// The order in which `count` threads or blocks take their turns.
class Order {
 public:
  explicit Order(size_t count) : order_(count) {
    const char* name = std::getenv("SPCL_CUDA_ON_CPU_ORDER");
    const std::string order = name == nullptr ? "forward" : name;
    for (size_t k = 0; k < count; ++k) order_[k] = order == "reverse" ? count - 1 - k : k;
    shuffles_ = order != "forward" && order != "reverse";
    if (shuffles_) random_.seed(static_cast<unsigned>(std::strtoul(order.c_str(), nullptr, 10)));
  }
  const std::vector<size_t>& next() {
    if (shuffles_) std::shuffle(order_.begin(), order_.end(), random_);
    return order_;
  }
  /// Whether whoever could go on lets the others come first.
  bool interrupts() { return shuffles_ && random_() % 2 == 0; }

 private:
  std::vector<size_t> order_;
  bool shuffles_;
  std::mt19937 random_;
};

inline void Block::enter(void* self) {
  auto& block = *static_cast<Block*>(self);
  Thread& thread = block.threads_[block.current_];
  try {
    (*block.kernel_)();
  } catch (...) {
    if (!block.error_) block.error_ = std::current_exception();
  }
  thread.state = State::kDone;
  finish_fiber(thread.fiber, block.main_);
}

inline bool Block::release_block() {
  const Thread* first = nullptr;
  any_of_block_ = 0;
  for (size_t t = 0; t < count_; ++t) {
    const Thread& thread = threads_[t];
    if (thread.state == State::kDone) continue;
    if (thread.state != State::kAtBlock) return false;
    if (first == nullptr) first = &thread;
    if (thread.line != first->line || std::strcmp(thread.where, first->where) != 0) {
      fail("threads of a block wait at different barriers, lines " + std::to_string(first->line) + " and " +
           std::to_string(thread.line) + " of " + thread.where);
    }
    any_of_block_ |= thread.predicate != 0;
  }
  for (size_t t = 0; t < count_; ++t) {
    if (threads_[t].state == State::kAtBlock) threads_[t].state = State::kReady;
  }
  return first != nullptr;
}

inline bool Block::release_warp(size_t warp) {
  bool released = false;
  for (size_t t = 32 * warp; t < 32 * warp + 32 && t < count_; ++t) {
    const unsigned mask = threads_[t].mask;
    if (threads_[t].state != State::kAtWarp) continue;
    bool all = true;
    for (size_t l = 0; l < 32; ++l) {
      if (!(mask >> l & 1)) continue;
      const size_t other = 32 * warp + l;
      if (other >= count_ || threads_[other].state == State::kDone) {
        error_ = std::make_exception_ptr(std::runtime_error("cuda_on_cpu: a warp waits for a lane that has left"));
        return false;
      }
      all &= threads_[other].state == State::kAtWarp && threads_[other].mask == mask;
    }
    if (!all) continue;
    for (size_t l = 0; l < 32; ++l) {
      if (mask >> l & 1) threads_[32 * warp + l].state = State::kReady;
    }
    released = true;
  }
  return released;
}

inline void Block::run_block(const std::function<void()>& kernel) {
  kernel_ = &kernel;
  error_ = nullptr;
  for (size_t t = 0; t < count_; ++t) {
    threads_[t].state = State::kReady;
    threads_[t].generation = 0;
    threads_[t].copies.clear();
    start_fiber(threads_[t].fiber, &Block::enter, this);
  }
  Order lanes(32), warps((count_ + 31) / 32);
  while (true) {
    bool ran = false;
    for (const size_t w : warps.next()) {
      // A warp goes on as long as it waits for nobody but itself, so that it can be far ahead of the others.
      bool goes_on = true;
      while (goes_on) {
        goes_on = false;
        for (const size_t l : lanes.next()) {
          const size_t t = 32 * w + l;
          if (t >= count_ || threads_[t].state != State::kReady) continue;
          current_ = t;
          switch_fiber(main_, threads_[t].fiber);
          ran = goes_on = true;
        }
        goes_on &= !error_ && release_warp(w) && !warps.interrupts();
      }
    }
    try {
      if (ran || (!error_ && release_block())) continue;
      const bool done = std::ranges::all_of(threads_.begin(), threads_.begin() + static_cast<int64_t>(count_),
                                            [](const Thread& thread) { return thread.state == State::kDone; });
      if (done) break;
      if (!error_) fail("a block cannot go on: some of its threads wait for others");
    } catch (...) {
      error_ = std::current_exception();
    }
    // Every thread that still waits is woken to unwind.
    for (size_t t = 0; t < count_; ++t) {
      if (threads_[t].state != State::kDone) threads_[t].state = State::kReady;
    }
  }
  if (error_) std::rethrow_exception(error_);
}

inline void Block::run_grid(unsigned columns, unsigned rows, unsigned threads, size_t shared_bytes,
                            const std::function<void()>& kernel) {
  count_ = threads;
  if (threads_.size() < threads) threads_.resize(threads);
  dynamic_.reset(shared_bytes > 0 ? std::aligned_alloc(16, (shared_bytes + 15) / 16 * 16) : nullptr);
  Order order(size_t{columns} * rows);
  for (const size_t b : order.next()) {
    index[0] = static_cast<unsigned>(b % columns);
    index[1] = static_cast<unsigned>(b / columns);
    if (shared_bytes > 0) std::memset(dynamic_.get(), 0xFF, shared_bytes);
    for (SharedSlot* slot : slots_) slot->poison();
    run_block(kernel);
    size_t bytes = shared_bytes;
    for (const SharedSlot* slot : slots_) bytes += slot->used_bytes();
    if (bytes > kSharedBytes) fail("a block that needs more shared memory than a GPU gives unasked");
  }
}

}  // namespace cuda_on_cpu
