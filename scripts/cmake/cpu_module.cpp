// The two functions of ggml's CPU backend that llama-export-lora calls, for builds in which that backend is a
// module and not linked: the best module for this processor is loaded, and asked. export_lora.cmake explains.
#include "ggml-backend.h"
#include "ggml-cpu.h"

ggml_backend_t ggml_backend_cpu_init(void) {
    if (ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU) == nullptr) {
        ggml_backend_load_all();
    }
    return ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr);
}

void ggml_backend_cpu_set_n_threads(ggml_backend_t backend, int n_threads) {
    auto * registry = ggml_backend_dev_backend_reg(ggml_backend_get_device(backend));
    auto set = reinterpret_cast<ggml_backend_set_n_threads_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_set_n_threads"));
    set(backend, n_threads);
}
