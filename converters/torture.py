"""Text on which tokenizers differ: what separates one pre-tokenizer from another, and where conversions went wrong."""

from __future__ import annotations

TORTURE = "".join(
    (
        "Hello world! I'm sure they'RE won't, we'Ll, it'S 'tis y'all'd've O'Neill's\n",
        "1 22 333 4444 55555 1234567890 3.14159 1,000,000 0x1F 12:30 2024-01-31 x86_64 v1.2.3\n",
        " leading  two   three    four\t\ttabs \n\n\n   \n trailing   \r\n\r\n\tindent\n        deep    \n",
        "camelCase HTTPServer snake_case SCREAMING_CASE kebab-case iPhone XMLHttpRequest McDonald's ÉCOLE\n",
        '$5.00 €3 £2 50% a+b=c <tag attr="x"/> {json: [1, 2]} f(x)^2 ~/path/to C:\\\\dir '
        "@user #tag && || != -> :: ... --- ***\n",
        "for (int i = 0; i < n; ++i) {\n\treturn a[i] ? !b : c;  // comment\n}\n",
        "¿Qué? ¡Olé! niño Ünïcödé Straße façade œuvre naïve e\u0301a\u0308n\u0303 Ångström ﬁ ﬂ ² ½ Ⅷ ℃\n",
        "Привет, мир! Γειά σου Κόσμε שָׁלוֹם עולם مرحبا بِالعَالَم नमस्ते दुनिया ไทยภาษา ភាសាខ្មែរ\n",
        "你好，世界！这是一个测试。日本語のテスト、カタカナ ｶﾀｶﾅ 한국어 테스트 ㄱㄴㄷ ㄅㄆㄇ 123一二三\n",
        "🚀🎉 👩‍👩‍👧‍👦 🇪🇸 👍🏽 ☺️ ♥ → ∑∞≠ … “quotes” ‘single’ «guillemets» – — \u00a0nbsp\u3000wide\u200bzero\n",
        "user@example.com https://example.org/a?b=c&d=%20#e ''' ''' '' '\n!!!???... ,;:. (((nested))) [[[]]]\n",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \x01\x7f end.  ",
    )
)
