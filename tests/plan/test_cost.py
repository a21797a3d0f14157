from seg_jax.plan import cost


def test_the_compiler_is_quoted_where_it_names_the_memory():
    # libtpu 0.0.52's own words.
    words = (
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required for HLO temporaries (18.60G) exceeds available HBM (15.75G). HLO module: "
        "jit_train_step.\nSee https://openxla.org/xla/errors/error_1000 for more details."
    )
    assert cost.too_large(words) == "needs 18.60G of 15.75G"
    assert cost.too_large("RESOURCE_EXHAUSTED: out\nmore") == "RESOURCE_EXHAUSTED: out"


def test_bytes_between_devices_are_read_off_the_program():
    program = """
  %a = (f32[16]{0:T(128)}, bf16[2,3]{1,0}) all-reduce(%x, %y), channel_id=2
  %b = f32[] all-reduce-start(%z), channel_id=3
  %c = (f32[4,2]{1,0}, f32[4,2]{1,0}) collective-permute-start(%w), channel_id=4
  %d = u8[5]{0} all-gather(%v), channel_id=5
  %e = f32[] all-reduce-done(%b)
  %f = pred[7]{0} add(%q, %all-reduce.3)
"""
    assert cost.bytes_between(program) == (16 * 4 + 6 * 2 + 4, 4 * 2 * 4 + 5)
