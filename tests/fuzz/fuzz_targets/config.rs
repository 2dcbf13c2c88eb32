//! Any JSON as a `config.json`: an error or a configuration.
#![no_main]

use fathom::checkpoint::check_quantization_config;
use fathom::model::config::ModelConfig;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let _ = check_quantization_config(&config);
    let _ = ModelConfig::from_json(&config);
});
