//! Lab only.
fn main() -> std::process::ExitCode {
    let mut a: Vec<_> = std::env::args_os().skip(1).collect();
    if a.first().is_some_and(|x| x == "crd") {
        use std::io::Write;
        let crd = api::schema::crds()
            .into_iter()
            .find(|c| c["spec"]["names"]["kind"] == "KubeVirt");
        std::io::stdout()
            .write_all(crd.unwrap_or_default().to_string().as_bytes())
            .ok();
        return std::process::ExitCode::SUCCESS;
    }
    virt_operator::main(std::mem::take(&mut a))
}
