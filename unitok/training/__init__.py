"""Lightning modules, data modules for codecs, callbacks, optimizers and schedules: what `unitok fit` puts together."""
