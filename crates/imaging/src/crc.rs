//! CRC-32C (Castagnoli), which VHDX' headers are checked with.

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                value >> 1 ^ POLYNOMIAL
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The checksum of `bytes`, of which four from `skip` on count as zeros.
pub(crate) fn crc32c(bytes: &[u8], skip: usize) -> u32 {
    let mut crc = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if (skip..skip + 4).contains(&index) {
            0
        } else {
            *byte
        };
        crc = TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8;
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::crc32c;

    #[test]
    fn the_check_value_of_the_polynomial_is_found() {
        assert_eq!(crc32c(b"123456789", 100), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32], 4), 0x8a91_36aa);
    }
}
