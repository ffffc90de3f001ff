// What a kernel of ONNX Runtime's CUDA provider computes.
#pragma once
#include <string>

#include "device.h"

namespace emulated {

// The work of one launch; empty for a kernel that is not known here.
// name: with types, as the compiler wrote it. arguments: the addresses of the launch's arguments, which are read now.
Work kernel(const std::string& name, Dim3 grid, void** arguments);

}  // namespace emulated
