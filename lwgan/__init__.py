"""Liquid Warping GAN with Attention: the model that draws people."""
