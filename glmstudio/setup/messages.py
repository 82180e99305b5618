"""The sentences of the set-up. It runs before tomllib is sure to exist, so they stand here and not in a words file."""

from __future__ import annotations

import os


class Stop(Exception):
    """The set-up cannot go on; the text says why and what helps."""


def say(key: str, **values: object) -> str:
    """The sentence in the language of the terminal."""
    return _TEXT[key][_is_chinese()].format(**values)


def _is_chinese() -> bool:
    chosen = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return chosen.lower().startswith("zh")


_TEXT = {
    # Before anything is installed
    "python": (
        "GLM Studio needs Python 3.10, 3.11, 3.12 or 3.13, and this is Python {version}.",
        "GLM Studio 需要 Python 3.10、3.11、3.12 或 3.13，而现在用的是 Python {version}。",
    ),
    "python_other": ("A suitable one is installed: {command}", "本机已有合适的版本，请运行：{command}"),
    "python_none": (
        "Install one of them, for example from https://www.python.org/downloads/, and start again with it.",
        "请安装其中一个版本（例如从 https://www.python.org/downloads/ 下载），再用它启动。",
    ),
    "build": (
        "“{build}” does not name a PyTorch build. Examples: --torch 2.7.1+cu118, --torch cu126, --torch cpu, --torch auto",
        "“{build}”不是 PyTorch 的版本。示例：--torch 2.7.1+cu118、--torch cu126、--torch cpu、--torch auto",
    ),
    "no_venv": (
        "This Python cannot create virtual environments: its “{module}” module is missing. On Debian or Ubuntu, run “sudo apt install python{version}-venv” and start again; elsewhere, use the Python from python.org.",
        "当前的 Python 缺少“{module}”模块，无法创建虚拟环境。在 Debian 或 Ubuntu 上请运行“sudo apt install python{version}-venv”后重试；其他系统请使用 python.org 提供的 Python。",
    ),
    "disk_low": (
        "The set-up needs about {need} GB of free disk space, and {folder} has {free:.1f} GB. Free some space, or move this folder to a larger disk, and start again.",
        "安装大约需要 {need} GB 的磁盘空间，而 {folder} 所在磁盘只剩 {free:.1f} GB。请清理磁盘，或把本文件夹移到更大的磁盘，再重新启动。",
    ),
    "driver_old": (
        "The NVIDIA driver {driver} is too old for every PyTorch that GLM Studio can use; 450.80.02 or later is needed. Update the driver, or use the CPU: python launcher.py --torch cpu",
        "NVIDIA 驱动 {driver} 太旧，GLM Studio 能用的 PyTorch 都不支持它；至少需要 450.80.02。请升级驱动，或只用 CPU 运行：python launcher.py --torch cpu",
    ),
    "waiting": (
        "Another launcher (process {pid}) is setting up this folder. Waiting until it has finished; press Ctrl+C to give up.",
        "另一个启动器（进程 {pid}）正在安装。等安装完成后会继续；按 Ctrl+C 放弃等待。",
    ),
    # What is being done
    "start": (
        "Setting up GLM Studio in {folder}. This happens once and takes a few minutes.",
        "正在 {folder} 中安装 GLM Studio。只需安装一次，大约几分钟。",
    ),
    "repair": (
        "The environment in {folder} does not work, so it is created again.",
        "{folder} 中的环境已损坏，将重新创建。",
    ),
    "step_venv": ("A Python environment", "创建 Python 环境"),
    "step_torch": ("PyTorch {version} ({reason})", "PyTorch {version}（{reason}）"),
    "packages": ("{names} and {more} more", "{names} 等，另有 {more} 个"),
    "because_asked": ("as asked", "按指定的版本"),
    "because_none": ("no NVIDIA driver found", "本机没有 NVIDIA 驱动"),
    "because_card": (
        "for driver {driver} and compute capability {capability}",
        "适合驱动 {driver} 与计算能力 {capability}",
    ),
    "begun": ("{title}, {time}", "{title}，已用 {time}"),
    "progress": ("{title}: {part}, {time}", "{title}：{part}，已用 {time}"),
    "looking": ("resolving, {count} packages found", "正在解析，已找到 {count} 个包"),
    "downloading": ("downloading {name}, package {count} of {total}", "正在下载 {name}，第 {count}/{total} 个包"),
    "megabytes": ("{part}, {done:.0f} of {size:.0f} MB", "{part}，{done:.0f}/{size:.0f} MB"),
    "unpacking": ("unpacking package {count} of {total}", "正在解压第 {count}/{total} 个包"),
    "done": ("done", "完成"),
    "ready": ("GLM Studio is set up ({time}).", "GLM Studio 安装完成（用时 {time}）。"),
    # The entry in the desktop's menu
    "shortcut_made": ("GLM Studio is now in the desktop's menu: {place}", "GLM Studio 已加入桌面的菜单：{place}"),
    "shortcut_removed": (
        "GLM Studio is no longer in the desktop's menu: {place}",
        "GLM Studio 已从桌面的菜单中移除：{place}",
    ),
    "shortcut_absent": ("This GLM Studio is not in the desktop's menu.", "桌面的菜单里没有这个 GLM Studio。"),
    "shortcut_other": (
        "{place} starts the GLM Studio in {folder}. Run “python launcher.py --remove-shortcut” there first.",
        "{place} 启动的是 {folder} 中的 GLM Studio。请先在那里运行“python launcher.py --remove-shortcut”。",
    ),
    "shortcut_taken": (
        "{place} was not made by GLM Studio, so it is left alone. Rename it, and try again.",
        "{place} 不是 GLM Studio 创建的，没有改动它。请给它改名后再试。",
    ),
    "shortcut_failed": (
        "The desktop's menu could not be changed ({hint}).",
        "无法修改桌面的菜单（{hint}）。",
    ),
    # What went wrong while installing
    "interrupted": (
        "Stopped. Start again to continue from here.",
        "已停止。再次启动会从中断处继续。",
    ),
    "no_network": (
        "The set-up cannot reach the package index ({hint}). Check the network connection; behind a proxy, set HTTPS_PROXY; in China, use a mirror: pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple. Then start again: it continues where it was.",
        "无法连接软件包服务器（{hint}）。请检查网络；若使用代理，请设置 HTTPS_PROXY；国内可使用镜像：pip config set global.index-url https://pypi.tuna.tsinghua.edu.cn/simple。之后重新启动，会从中断处继续。",
    ),
    "disk_full": (
        "The disk with {folder} is full. Free some space and start again: it continues where it was.",
        "{folder} 所在的磁盘已满。请清理空间后重新启动，会从中断处继续。",
    ),
    "not_writable": (
        "Cannot write to {folder} ({hint}). Move GLM Studio to a folder of your own, or correct the folder's owner, and start again.",
        "无法写入 {folder}（{hint}）。请把 GLM Studio 移到您自己的文件夹，或修正文件夹的所有者，再重新启动。",
    ),
    "no_build": (
        "There is no PyTorch {version} for this machine and Python {python}. Choose another build: python launcher.py --torch auto",
        "没有适用于本机和 Python {python} 的 PyTorch {version}。请选择其他版本：python launcher.py --torch auto",
    ),
    "pip_failed": (
        "The installation failed: {hint} Start again to continue where it was; if that fails, too, delete {folder} first.",
        "安装失败：{hint} 重新启动会从中断处继续；若仍然失败，请先删除 {folder}。",
    ),
    "log": ("The full output is in {log}.", "完整输出见 {log}。"),
}
