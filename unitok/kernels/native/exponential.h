// e^x of many numbers at once.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace unitok {

// e^x, at most two units in the last place from `std::exp`, in a form that fills the registers.
inline float exponential(float x) {
  x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
  const float whole = std::rint(x * 1.44269504f), r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  for (const float next : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    y = y * r + next;
  y = y * r * r + r + 1.0f;
  const int32_t bits = (int32_t(whole) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return y * power;
}

}  // namespace unitok
