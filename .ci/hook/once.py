"""What a cell returns is turned into text and pictures once: execnb does it twice, and a figure's layout moves by a pixel each time."""
from execnb.shell import _CustDisplayHook

format_data = _CustDisplayHook.compute_format_data


def compute_format_data(self, result):
    return format_data(self, result) if hasattr(result, "_ipython_display_") else ({}, {})  # that one shows itself, inside of the cell


_CustDisplayHook.compute_format_data = compute_format_data
