//! Checks the properties of each target with the inputs that libFuzzer has found (`cargo xtask fuzz`),
//! and with the frames of the table and generated ones.

use filter_common::packet::Layer4;
use ringfence_packets::cases::generated::Packets;
use ringfence_packets::cases::{self, worlds};
use ringfence_packets::fuzz::{self, TARGETS};

#[test]
fn every_input_has_its_properties() {
    for (target, check) in TARGETS {
        for (path, input) in fuzz::corpus(target) {
            // Shown only if the check panics.
            println!("{}", path.display());
            check(&input);
        }
    }
}

#[test]
fn every_frame_has_the_properties() {
    let cases = cases::all();
    let table = cases.iter().map(|case| case.packet.clone());
    let mut frames = 0;
    for frame in table.chain(Packets::new(0x0fa2_2ed0, &cases, 9000).take(20_000)) {
        fuzz::packet::check(&frame);
        fuzz::sip::check(&frame);
        frames += 1;
        if let Ok(headers) = fuzz::reference::headers(&frame) {
            let (Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. }) = headers.layer4 else {
                continue;
            };
            let payload = fuzz::reference::payload(&frame, payload);
            fuzz::sip::check(&[&[0, 0], payload].concat());
            fuzz::sip::check(&[&[1, 3], payload].concat());
        }
    }
    assert!(frames > 20_500, "only {frames} frames");
}

#[test]
fn every_row_of_frames_has_the_properties() {
    let cases = cases::all();
    let frames: Vec<_> = Packets::new(0x0a11_0f7e, &cases, 2000).take(30_000).collect();
    for (world, _) in (0..).zip(worlds::all()) {
        for row in frames.chunks(100) {
            fuzz::decide::check(&fuzz::decide::input(world, row.iter().map(Vec::as_slice)));
        }
    }
}

#[test]
fn a_row_of_frames_is_read_as_it_was_written() {
    let frames: [&[u8]; 4] = [b"one", b"", &[7; 300], b"last"];
    let input = fuzz::decide::input(3, frames);
    assert_eq!(fuzz::decide::frames(&input[1..]).collect::<Vec<_>>(), frames);
}
