#pragma once

#include <string>

namespace spcl {

/// What is wrong with an argument, in the words of an error; an empty rule: nothing.
struct Fault {
  std::string rule, got;
};

}  // namespace spcl
