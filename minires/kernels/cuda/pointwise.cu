// One number in, one number out, for n numbers in whatever order they lie. A thread takes every (number of threads)th.

template <class Work>
__device__ void each(integer n, Work work) {
  for (integer i = (integer)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (integer)gridDim.x * blockDim.x) work(i);
}

extern "C" __global__ void relu(const real* x, real* y, integer n) {
  each(n, [&](integer i) { y[i] = x[i] <= 0 ? 0 : x[i]; });  // so that NaN stays NaN
}

extern "C" __global__ void relu_gradient(const real* gy, const real* y, real* gx, integer n) {
  each(n, [&](integer i) { gx[i] = y[i] > 0 ? gy[i] : 0; });
}

extern "C" __global__ void add(const real* x, const real* f, real* y, integer n) {
  each(n, [&](integer i) { y[i] = x[i] + f[i]; });
}

// P(x) = (1 + erf(x / sqrt 2)) / 2
__device__ real normal_below(real x) { return (real)0.5 * (1 + erf(x * (real)0.70710678118654752440)); }

extern "C" __global__ void gelu(const real* x, real* y, integer n) {
  each(n, [&](integer i) { y[i] = x[i] * normal_below(x[i]); });
}

extern "C" __global__ void gelu_gradient(const real* x, const real* gy, real* gx, integer n) {
  each(n, [&](integer i) {
    real density = exp(x[i] * x[i] * (real)-0.5) * (real)0.39894228040143267794;  // 1 / sqrt(2 pi)
    gx[i] = gy[i] * (normal_below(x[i]) + x[i] * density);
  });
}

#define GELU_C (real)0.79788456080286535588  // sqrt(2 / pi)
#define GELU_A (real)0.044715

extern "C" __global__ void gelu_tanh(const real* x, real* y, integer n) {
  each(n, [&](integer i) {
    real v = x[i];
    y[i] = (real)0.5 * v * (1 + tanh(GELU_C * (v + GELU_A * v * v * v)));
  });
}

extern "C" __global__ void gelu_tanh_gradient(const real* x, const real* gy, real* gx, integer n) {
  each(n, [&](integer i) {
    real v = x[i], t = tanh(GELU_C * (v + GELU_A * v * v * v)), inner = GELU_C * (1 + 3 * GELU_A * v * v);
    gx[i] = gy[i] * (real)0.5 * ((1 + t) + v * (1 - t * t) * inner);
  });
}

// With noise u from U[0, 1): kept where u >= p. `scale` is 1 / (1 - p).
extern "C" __global__ void dropout(
    const real* x, const real* u, real* y, bool* kept, double p, double scale, integer n) {
  each(n, [&](integer i) {
    kept[i] = u[i] >= (real)p;
    y[i] = kept[i] ? x[i] * (real)scale : 0;
  });
}

extern "C" __global__ void dropout_gradient(const real* gy, const bool* kept, real* gx, double scale, integer n) {
  each(n, [&](integer i) { gx[i] = kept[i] ? gy[i] * (real)scale : 0; });
}
