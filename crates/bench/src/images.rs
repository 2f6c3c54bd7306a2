//! Sizes of the images, as `cargo xtask images` made them.

use anyhow::Context;

use crate::report::Report;

/// Megabytes, as image sizes are told.
const MB: f64 = 1e6;

/// Reads target/images/images.json (or `EDGEVIRT_IMAGES`).
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let dir = std::env::var("EDGEVIRT_IMAGES").unwrap_or_else(|_| "target/images".to_owned());
    let path = std::path::Path::new(&dir).join("images.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let images: serde_json::Value = serde_json::from_str(&text)?;
    let size = |name: &str| images[name]["size"].as_f64().unwrap_or(f64::NAN) / MB;
    report.compare(
        "image: virt-launcher",
        "MB",
        size("launcher"),
        160.0,
        ("upstream", 507.8),
    );
    report.compare(
        "image: all other components",
        "MB",
        size("components"),
        45.0,
        ("upstream, seven images", 732.6),
    );
    report.add("image: demo guest", "MB", size("guest"));
    Ok(())
}
