# What a device needs to run an artefact, listed once: for the library mossc_device, and for the copies that `mossc compile` puts
# into every artefact.
set(MOSSC_DEVICE_RUNTIME
  error.c
  mark.c
  memory.c
  model.c
  packed.c
  sampler.c
  state.c
  state_file.c
  step.c
  tokenizer.c
  workers.c)
set(MOSSC_DEVICE_SUPPORT
  arena.c
  diag.c
  digest.c
  dmath.c
  file.c
  str.c)
