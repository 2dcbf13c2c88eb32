//! What can go wrong on a device.

/// One line each: what, expected, found, hint.
#[derive(thiserror::Error, Debug, Clone)]
pub enum GpuError {
    #[error(
        "no GPU adapter found{backend}: install a Vulkan driver (Debian: `apt-get install mesa-vulkan-drivers`), or see `fathom doctor`"
    )]
    NoAdapter { backend: String },
    #[error("adapter {wanted:?} not found; there are: {found}")]
    UnknownAdapter { wanted: String, found: String },
    #[error("adapter {adapter} refused a device: {reason}")]
    NoDevice { adapter: String, reason: String },
    #[error(
        "out of device memory at {wanted_bytes} bytes for {what}: {held_bytes} bytes are held, the limit is {limit_bytes}; free memory, lower --context, or raise --memory"
    )]
    OverLimit { what: String, wanted_bytes: u64, held_bytes: u64, limit_bytes: u64 },
    #[error("the device ran out of memory{}; lower --context or choose a smaller model", .0.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    OutOfMemory(Option<String>),
    #[error("{what}: {size_bytes} bytes do not fit one binding of this device ({limit_bytes} bytes)")]
    TooLargeForBinding { what: String, size_bytes: u64, limit_bytes: u64 },
    #[error("the device was lost: {0}")]
    Lost(String),
    #[error("the driver refused a command: {0}")]
    Driver(String),
    #[error("reading back from the device failed: {0}")]
    Readback(String),
}
