"""zt_agents"""
