# What a device needs to run an artefact, listed once: for the library mossc_device, and for the copies that `mossc compile` puts
# into every artefact.
set(MOSSC_DEVICE_RUNTIME artefact.c complete.c error.c generate.c hidden.c memory.c model.c non_finite.c packed.c picker.c program.c sampler.c state.c state_checkpoint.c state_file.c
  state_memory.c step.c stops.c text.c tokenizer.c
  workers.c)
set(MOSSC_DEVICE_SUPPORT alloc.c arena.c cpus.c diag.c digest.c dmath.c file.c out.c str.c)
set(MOSSC_DEVICE_TOKENIZER added.c bpe.c decode.c known.c model.c normal.c packed_read.c split.c tables.c vocab.c word.c) # of kind bpe
set(MOSSC_DEVICE_HEADERS include/mossc/moss.h ir/activation.def ir/activation.h ir/binary.def ir/dtype.def ir/dtype.h ir/epilogue.def ir/epilogue.h ir/half.h ir/kernel_fields.def ir/kernel_kinds.def ir/program.h ir/quant.h ir/rope.h ir/vmath.inc ir/vmath32.h ir/words.def
  runtime/complete.h runtime/device.h runtime/memory.h runtime/model.h runtime/narrow.h runtime/packed.h runtime/picker.h runtime/state_file.h runtime/stops.h runtime/tokenizer.h
  runtime/workers.h
  support/alloc.h support/arena.h support/clock.h support/cpus.h support/diag.def support/diag.h support/digest.h support/dmath.h support/file.h support/limits.h support/random.h support/size.h support/str.h
  support/utf8.h
  tokenizer/added.h tokenizer/bytes.h tokenizer/known.h tokenizer/model.h tokenizer/packed.h tokenizer/split.h tokenizer/step.h tokenizer/tables.h tokenizer/unicode.h
  tokenizer/vocab.h tokenizer/word.h)
# Of an artefact for CUDA, besides.
set(MOSSC_DEVICE_CUDA cuda/artefact.c cuda/code.c cuda/driver.c cuda/gpu.c cuda/picks.c cuda/steps.c)
set(MOSSC_DEVICE_CUDA_HEADERS runtime/cuda/driver.h runtime/cuda/gpu.h ir/cuda_image.h runtime/cuda/moss_cuda.h)
