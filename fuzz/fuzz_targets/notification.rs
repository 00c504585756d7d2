#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| farmgate_fuzz::hostile::notification(bytes));
