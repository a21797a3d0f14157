"""seg_jax: dense prediction in JAX, from pixels to a map."""
