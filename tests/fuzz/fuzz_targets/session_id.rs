#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bits_gateway_fuzz::session_id(data));
